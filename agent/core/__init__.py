"""cored: runs once, decides what should run where. Never imports `node`."""
