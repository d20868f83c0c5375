"""`make mutants`: small bugs, one at a time, that the tests must find."""
