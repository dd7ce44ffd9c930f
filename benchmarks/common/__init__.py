"""Code that several programs share: options, rounds of timing, tables and figures."""
