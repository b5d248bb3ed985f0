def _x(): return 1
