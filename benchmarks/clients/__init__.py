"""The clients that are measured: each opens connections and sends back what it receives."""
