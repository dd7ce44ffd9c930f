"""Designs of networks that learn the same task under the same conditions."""
