/* answer.c - replies: from memory, from a file, or as a stream. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

/* ---- bodies ---- */

/* The library forgets to close a chunked reply that ends in an error: the shutdown makes it look at the connection again. */
static ssize_t break_off(exchange *x)
{
    (void)shutdown(x->connection->fd, SHUT_RDWR); /* fails when the client has gone already */
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static ssize_t pull(void *cls, uint64_t at, char *buf, size_t size)
{
    exchange *x = cls;

    (void)at;
    for (;;) {
        int64_t n = depot_req_pull(x->req, buf, size);
        if (n > 0) {
            return (ssize_t)n;
        }
        if (n < 0) {
            return n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : break_off(x);
        }
        if (atomic_load(&x->connection->listener->closing)) {
            return break_off(x);
        }
        if (exchange_suspend(x)) {
            return 0;
        }
    }
}

static ssize_t read_file(void *cls, uint64_t at, char *buf, size_t size)
{
    exchange               *x = cls;
    const depot_reply_view *view = depot_req_reply(x->req);
    ssize_t                 n = pread(view->fd, buf, size, (off_t)(view->offset + (int64_t)at));

    return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *file_response(exchange *x, const depot_reply_view *view)
{
    if (x->connection->listener->settings.cert != NULL) {
        return MHD_create_response_from_callback((uint64_t)view->length, HTTP_BLOCK, read_file, x, NULL);
    }
    int fd = fcntl(view->fd, F_DUPFD_CLOEXEC, 3); /* the response closes its own */
    if (fd < 0) {
        return NULL;
    }
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64((uint64_t)view->length, fd, (uint64_t)view->offset);
    if (response == NULL) {
        depot_fd_close(&fd);
    }
    return response;
}

static struct MHD_Response *memory_response(const char *body, size_t n)
{
    return MHD_create_response_from_buffer(n, (void *)(uintptr_t)(body == NULL ? "" : body), MHD_RESPMEM_PERSISTENT);
}

static struct MHD_Response *make_response(exchange *x)
{
    const depot_reply_view *view = depot_req_reply(x->req);

    if (view->stream) {
        return MHD_create_response_from_callback(view->length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)view->length, HTTP_BLOCK, pull, x,
                                                 NULL);
    }
    return view->fd >= 0 ? file_response(x, view) : memory_response(view->body, view->len);
}

/* ---- sending ---- */

enum MHD_Result answer_send(exchange *x, bool close)
{
    struct MHD_Response *response = make_response(x);
    const char          *name, *value;
    enum MHD_Result      result = response == NULL ? MHD_NO : MHD_YES;

    for (size_t it = 0; result == MHD_YES && depot_req_next_header(x->req, &it, &name, &value);) {
        result = MHD_add_response_header(response, name, value);
    }
    if (result == MHD_YES && close) {
        result = MHD_add_response_header(response, "Connection", "close");
    }
    if (result == MHD_YES) {
        result = MHD_queue_response(x->mhd, (unsigned)depot_req_reply(x->req)->status, response);
    }
    if (response != NULL) {
        MHD_destroy_response(response);
    }
    return result;
}

enum MHD_Result answer_refuse(struct MHD_Connection *mhd, int status, const char *code, const char *detail)
{
    char text[512];
    int  n = snprintf(text, sizeof(text),
                      "{\"type\":\"urn:depotd:error:malformed\",\"title\":\"the request cannot be read\",\"status\":%d,"
                      "\"detail\":\"%s\",\"code\":\"%s\",\"retry\":\"no\"}", status, detail, code);
    struct MHD_Response *response = MHD_create_response_from_buffer((size_t)n, text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result      result = response == NULL ? MHD_NO : MHD_YES;

    if (result == MHD_YES) {
        result = MHD_add_response_header(response, "Content-Type", "application/problem+json") == MHD_YES &&
                 MHD_add_response_header(response, "Connection", "close") == MHD_YES
            ? MHD_queue_response(mhd, (unsigned)status, response)
            : MHD_NO;
        MHD_destroy_response(response);
    }
    return result;
}
