"""Log-sum-exp in one place: what the families and the losses are computed with."""
