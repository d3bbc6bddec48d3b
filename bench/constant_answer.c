/* The least that can be behind Envoy's ext_authz filter: HTTP/2 on a Unix socket and the same answer to each call.

   It reads the heads of frames and nothing else, trusts whoever connects, and so is good for benchmarks alone.

   usage: constant_answer SOCKET ANSWER
   ANSWER: a file with the body of each response, gRPC's five octets before the message included. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATA = 0, HEADERS = 1, SETTINGS = 4, PING = 6, WINDOW_UPDATE = 8 }; /* RFC 9113 section 6 */
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };
enum { HEAD = 9, PREFACE = 24, PING_OCTETS = 8, FRAME = 1 << 14, INPUT = 1 << 16, ENOUGH = 1 << 16, MANY = 64 };

/* HPACK (RFC 7541) without its dynamic table: `:status: 200`, `content-type: application/grpc`. */
static const uint8_t OPENING[] = "\x88\x0f\x10\x10" "application/grpc";
static const uint8_t TRAILERS[] = "\x00\x0bgrpc-status\x01" "0";

struct connection {
    int socket;
    size_t unread;   /* octets of `input` that wait for the rest of their frame */
    size_t preface;  /* octets of the client's preface that are still to come */
    uint32_t window; /* octets of DATA that the client does not know to be read */
    uint8_t input[INPUT];
};

static uint8_t response[FRAME], output[ENOUGH + 2 * FRAME];
static size_t response_octets, written;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void put32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void put_frame(uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t octets) {
    uint8_t *head = output + written;
    put32(head, (uint32_t)octets << 8 | type);
    head[4] = flags;
    put32(head + 5, stream);
    memcpy(head + HEAD, payload, octets);
    written += HEAD + octets;
}

static void flush(struct connection *client) {
    for (size_t sent = 0; sent < written;) {
        ssize_t taken = send(client->socket, output + sent, written - sent, MSG_NOSIGNAL);
        if (taken <= 0)
            break; /* it is gone, as the next read will tell */
        sent += (size_t)taken;
    }
    written = 0;
}

/* What is under way at once fits in the least window there is (65,535 octets), so WINDOW_UPDATE needs no look. */
static void answer(uint32_t stream) {
    put_frame(HEADERS, END_HEADERS, stream, OPENING, sizeof OPENING - 1);
    put_frame(DATA, 0, stream, response, response_octets);
    put_frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS, sizeof TRAILERS - 1);
}

static void take_frame(struct connection *client, const uint8_t *head, size_t octets) {
    uint8_t type = head[3], flags = head[4];
    uint32_t stream = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
    if (type == DATA) {
        client->window += (uint32_t)octets;
        if (flags & END_STREAM)
            answer(stream);
    } else if (type == SETTINGS && !(flags & ACK)) {
        put_frame(SETTINGS, ACK, 0, "", 0);
    } else if (type == PING && !(flags & ACK) && octets == PING_OCTETS) {
        put_frame(PING, ACK, 0, head + HEAD, octets);
    }
}

/* 0: the connection is over. */
static int receive(struct connection *client) {
    ssize_t got = recv(client->socket, client->input + client->unread, INPUT - client->unread, 0);
    if (got <= 0)
        return 0;
    size_t end = client->unread + (size_t)got, at = client->preface < end ? client->preface : end;
    client->preface -= at;
    while (end - at >= HEAD) {
        const uint8_t *head = client->input + at;
        size_t octets = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (octets > INPUT - HEAD)
            return 0;
        if (end - at < HEAD + octets)
            break;
        take_frame(client, head, octets);
        at += HEAD + octets;
        if (written > ENOUGH)
            flush(client);
    }
    client->unread = end - at;
    memmove(client->input, client->input + at, client->unread);
    if (client->window) {
        uint8_t more[4];
        put32(more, client->window);
        put_frame(WINDOW_UPDATE, 0, 0, more, sizeof more);
        client->window = 0;
    }
    flush(client);
    return 1;
}

static void welcome(int listener, int poller) {
    struct connection *client = calloc(1, sizeof *client);
    if (client == NULL || (client->socket = accept(listener, NULL, NULL)) < 0)
        fail("accept");
    client->preface = PREFACE;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->socket, &event);
    put_frame(SETTINGS, 0, 0, "", 0);
    flush(client);
}

static void part(struct connection *client) {
    close(client->socket);
    free(client);
}

int main(int count, char **arguments) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count != 3 || strlen(arguments[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: constant_answer SOCKET ANSWER\n");
        return 2;
    }
    FILE *file = fopen(arguments[2], "rb");
    if (file == NULL || (response_octets = fread(response, 1, FRAME, file)) == 0)
        fail(arguments[2]);
    if (fgetc(file) != EOF) {
        fprintf(stderr, "%s: longer than a frame of %d octets\n", arguments[2], FRAME);
        return 2;
    }
    fclose(file);
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none); /* as authz-service does: see do_not_interrupt */
    strcpy(address.sun_path, arguments[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poller = epoll_create1(0);
    if (listener < 0 || poller < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, MANY))
        fail(arguments[1]);
    struct epoll_event event = {.events = EPOLLIN}, events[MANY];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, MANY, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *client = events[i].data.ptr;
            if (client == NULL)
                welcome(listener, poller);
            else if (!receive(client))
                part(client);
        }
    }
}
