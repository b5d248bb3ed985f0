cimport cython

from kshark cimport _message as made
from kshark._message cimport Message, known
from kshark.feeder cimport Found, Rider
from kshark.protocols._fields cimport value_of
from kshark.protocols.http2._hpack cimport Decoder as CDecoder
from kshark.protocols.http2.lane cimport Lane as CLane
from kshark.protocols.http2.stream cimport Half as CHalf, Stream as CStream, half_of, stream_of

cdef int REQUEST, RESPONSE, INTERIM, ONEWAY, CLIENT, SERVER
cdef long long LAST
cdef str CONNECT

cdef Py_ssize_t BODY_KEPT, HEADER_LIST, RESETS, STREAM_BYTES, STREAMS
cdef long BAD_HEADERS, GIVEN_UP, LONG_HEADERS, LOST_BYTES, NOT_PROCESSED, PUSHED, RESET_BY_CLIENT, RESET_BY_SERVER
cdef long UNKNOWN_HEADERS, UPGRADED

@cython.final
cdef class Streams:
    cdef public CLane client, server
    cdef public dict table, gone
    cdef public bint first
    cdef public int fed
    cdef public long long now
    cdef public object layers
    cdef public CStream recent
    cdef public long long handled
    cdef public str left, kind
    cdef public bytes typed
    @cython.locals(stream=CStream)
    cpdef CStream find(self, long long number)
    @cython.locals(stream=CStream)
    cpdef CStream follow(self, long long number, Found out)
    @cython.locals(stream=CStream)
    cpdef CStream begin(self, long long number, Found out)
    @cython.locals(half=CHalf)
    cpdef CHalf open(self, CLane lane, long long number, CStream stream, Found out)
    @cython.locals(stream=CStream, half=CHalf)
    cpdef CHalf content(self, CLane lane, long long number, Found out)
    @cython.locals(size=Py_ssize_t, room=Py_ssize_t)
    cpdef keep(self, CLane lane, CHalf half, bytes data, Py_ssize_t pos, Py_ssize_t end, Found out)
    @cython.locals(found=CDecoder, stream=CStream, half=CHalf, first=cython.bint)
    cpdef headers(self, CLane lane, long long number, long flags, Found out)
    @cython.locals(found=CDecoder)
    cpdef take_head(self, CLane lane, CHalf half, bint first)
    @cython.locals(found=CDecoder, stream=CStream, asked=CHalf, message=Message)
    cpdef interim(self, CLane lane, long long number, long flags, Found out)
    @cython.locals(found=CDecoder, half=CHalf, number=cython.longlong)
    cpdef promise(self, CLane lane, long flags, Found out)
    @cython.locals(value=bytes)
    cpdef str content_type(self, bytes head)
    @cython.locals(kind=str, extended=str, number=cython.longlong, request=Message)
    cpdef ask(self, CStream stream, CHalf half, long flags)
    @cython.locals(held=Py_ssize_t, layer=Rider, side=cython.int)
    cpdef hand_on(self, CLane lane, CHalf half, bytes data, Found out)
    @cython.locals(layer=Rider, side=cython.int)
    cpdef miss(self, CLane lane, CHalf half, long long missing, Found out)
    cpdef tell_hole(self, CHalf half, Rider layer, long long number, int side, Found out)
    @cython.locals(own=cython.longlong, held=cython.longlong)
    cpdef charge(self, CLane lane, CHalf half, Message message)
    @cython.locals(stream=CStream, half=CHalf, sender=cython.int, message=Message)
    cpdef take_given(self, object found, long long number, int side, Found out)
    @cython.locals(side=cython.int, one=Message)
    cpdef end_layer(self, CHalf half, Rider layer, Message message, Found out)
    cpdef append(self, Message message, int side, Found out)
    @cython.locals(stream=CStream, asked=CHalf)
    cpdef ended(self, CLane lane, long long number, Found out)
    @cython.locals(stream=CStream)
    cpdef unheeded(self, long long number, Found out)
    @cython.locals(number=cython.longlong, asked=CHalf, answer=CHalf)
    cpdef over(self, CStream stream, Found out)
    cpdef give(self, CLane lane, CHalf half, long long number, Found out)
    @cython.locals(side=cython.int, message=Message)
    cpdef send(self, CHalf half, long long number, Found out)
    cpdef abandon(self, CStream stream, long flag, Found out)
    @cython.locals(stream=CStream, half=CHalf)
    cpdef shed(self, CLane lane, long long number, Found out)
    @cython.locals(stream=CStream, own=CHalf, flag=long)
    cpdef reset(self, CLane lane, long long number, long long code, long long size, Found out)
    @cython.locals(answer=CHalf)
    cpdef fail(self, CStream stream, str what, str error, long flag, Found out)
    @cython.locals(stream=CStream)
    cpdef leave(self, CLane lane, long long last, long long code, bytes text, Found out)
    @cython.locals(stream=CStream, half=CHalf)
    cpdef lost(self, CLane lane)
    @cython.locals(stream=CStream, half=CHalf)
    cpdef sweep(self, CLane lane, Found out)
    cpdef retire(self, long long number)
    @cython.locals(stream=CStream)
    cpdef close(self, Found out)
    @cython.locals(stream=CStream)
    cpdef slim(self)
