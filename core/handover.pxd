"""`handover.py` is compiled as it stands, without types: a flow ends there."""
