http_LIBS := $(MHD_LIBS)
http_CFLAGS := $(MHD_CFLAGS)
