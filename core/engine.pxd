"""`engine.py` is compiled as it stands, without types: it is called for each flow, and by none of its parts often."""
