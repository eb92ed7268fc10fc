"""The lists of everything that test_contract.py holds to the same contract: losses and heads.

A new loss or head is added to a list here, and nowhere else, to be checked for derivatives, dtypes,
compilation, `torch.func` and agreement with a naive formula. Each case names its differentiable tensors, and
a `naive` loss written from the formula with torch's own functions. Modules without rows of prototypes are
held to test_module_contract.py.
"""

from _contract import classes, heads, modules, pairs, ranking, regularisers

CASES = [*classes.CASES, *pairs.CASES, *ranking.CASES, *regularisers.CASES]
HEADS = [*heads.HEADS]
MODULES = [*modules.MODULES]
