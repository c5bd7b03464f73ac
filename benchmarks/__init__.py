"""The benchmark: trio_ws beside its peers, in one run. See README.md."""
