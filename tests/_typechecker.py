"""The run-time checker of `SMOOTHMAX_TYPE_HOOK=1`: beartype, for which an int is a float, as for pyright."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
