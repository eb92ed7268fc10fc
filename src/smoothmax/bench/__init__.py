"""How fast smoothmax is here, beside its peers: the command `bench`, and what benchmarks/ is made of."""
