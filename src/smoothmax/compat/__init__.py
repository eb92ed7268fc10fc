"""Other libraries' constructors and calls over our losses; what they mean is converted once, here."""

from smoothmax.compat import pml

__all__ = ["pml"]
