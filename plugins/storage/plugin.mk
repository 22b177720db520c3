storage_LIBS := $(SSL_LIBS) $(ZLIB_LIBS)
storage_CFLAGS := $(SSL_CFLAGS) $(ZLIB_CFLAGS)
