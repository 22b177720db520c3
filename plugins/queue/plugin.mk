queue_LIBS := $(SSL_LIBS)
queue_CFLAGS := $(SSL_CFLAGS)
