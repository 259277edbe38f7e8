"""The version that all parts of this distribution report."""

VERSION = "0.1.0"
