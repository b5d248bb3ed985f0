from kshark.feeder cimport Feeder, Found

cdef class WebSocketDissector(Feeder):
    cdef public tuple lanes
