"""The servers that are measured, one module for each peer, all with the options of `options`."""
