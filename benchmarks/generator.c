/* The load generator: one thread, one epoll, no allocation and no copy for a message.
 *
 * It opens connections to a server (role "connect") or takes them from a client (role "listen"),
 * keeps a fixed number of messages in flight on each, and prints one line of JSON at the end.
 * CPU time is read here, of the measured process and of itself, at the two ends of the window in
 * which messages are counted. Linux only; fallback.py does the same in Python.
 *
 * Works:
 *   echo        every message comes back; the next one follows it
 *   burst       all messages in flight are sent at once, and again when the last has come back
 *   quiet       connection 0 floods; the others send now and then, and only they are measured
 *   broadcast   connection 0 sends one message, every connection receives it
 *   handshakes  connections are opened and reset
 *   idle        connections are opened and held
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 256 * 1024, BATCH_SIZE = 256 * 1024, HEAD_SIZE = 2048, OPENING = 64 };
enum { BUCKETS_PER_DOUBLING = 32, BUCKETS = 48 * BUCKETS_PER_DOUBLING };
enum { TURNS = 10, STRETCH = 8 };  /* see run_turns */
enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

typedef enum { CONNECTING, TLS, HANDSHAKE, OPEN, CLOSED } State;
typedef enum { ECHO, BURST, QUIET, BROADCAST, HANDSHAKES, IDLE } Work;

typedef struct {
    int fd;
    void *ssl;
    State state;
    bool wants_write, checked;
    /* Outgoing: this many copies of the frame, the first of them sent up to the offset. */
    uint64_t due;
    size_t offset;
    /* When the messages in flight were sent, oldest at `oldest`. */
    uint64_t *sent;
    uint32_t oldest, in_flight;
    uint64_t next_at, opened_at;
    /* Incoming: the head of a frame or of an HTTP message, then what is left of the payload. */
    uint8_t head[16];
    uint8_t head_have, opcode;
    bool final;
    uint64_t left, message_bytes;
    uint8_t *control;
    size_t control_size, control_offset;
    char *http;
    size_t http_have, http_offset;
} Connection;

static struct {
    const char *role;
    Work work;
    bool tls, raw;
    int port, opcode;
    pid_t pid;
    uint32_t connections, in_flight, flood;
    size_t size;
    double warmup, seconds, interval;
} options = {
    .role = "connect", .work = ECHO, .opcode = BINARY, .connections = 1, .in_flight = 1,
    .size = 64, .warmup = 0.3, .seconds = 1, .interval = 0.05,
};

static int epoll_fd;
static Connection *connections;
static uint32_t started, opening, opened, closed;
static uint8_t *payload, *batch, *incoming;
static size_t frame_size, batch_size;
static bool measuring, finishing;
static uint64_t messages, returned, heard;
static uint64_t histogram[BUCKETS], measured_latencies;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("generator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory");
    return memory;
}

static uint64_t clock_read(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time)) return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now(void) { return clock_read(CLOCK_MONOTONIC); }

static uint64_t cpu_of(pid_t pid) {
    clockid_t clock;
    if (!pid || clock_getcpuclockid(pid, &clock)) return 0;
    return clock_read(clock);
}

static uint64_t memory_of(pid_t pid) {
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %lu kB", &kib) == 1) break;
    fclose(file);
    return kib * 1024;
}

/* Latencies: a histogram whose buckets are 2 % wide. */

static void record(uint64_t nanoseconds) {
    uint64_t value = nanoseconds | BUCKETS_PER_DOUBLING;
    int doubling = 63 - __builtin_clzll(value);
    uint64_t within = (value >> (doubling - 5)) & (BUCKETS_PER_DOUBLING - 1);
    uint64_t bucket = (uint64_t)(doubling - 5) * BUCKETS_PER_DOUBLING + within;
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    measured_latencies++;
}

static double percentile(double share) {
    uint64_t wanted = (uint64_t)(share * (double)measured_latencies), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen > wanted) {
            int doubling = bucket / BUCKETS_PER_DOUBLING + 5;
            uint64_t within = (uint64_t)(bucket % BUCKETS_PER_DOUBLING) + BUCKETS_PER_DOUBLING;
            return (double)(within << (doubling - 5)) / 1e9;
        }
    }
    return 0;
}

/* TLS: the system's OpenSSL, loaded when asked for, so that its headers are not needed. */

static struct {
    void *(*method)(void), *(*ctx_new)(void *), *(*ssl_new)(void *);
    int (*set_fd)(void *, int), (*connect)(void *), (*read)(void *, void *, int);
    int (*write)(void *, const void *, int), (*error)(const void *, int);
    long (*ctrl)(void *, int, long, void *);
    void *context;
} tls;

enum { WANT_READ = 2, WANT_WRITE = 3, CTRL_MODE = 33, PARTIAL_AND_MOVING = 3 };

static void load_tls(void) {
    void *library = dlopen("libssl.so.3", RTLD_NOW);
    if (!library) library = dlopen("libssl.so.1.1", RTLD_NOW);
    if (!library) fail("no OpenSSL library to speak TLS with");
    *(void **)&tls.method = dlsym(library, "TLS_client_method");
    *(void **)&tls.ctx_new = dlsym(library, "SSL_CTX_new");
    *(void **)&tls.ssl_new = dlsym(library, "SSL_new");
    *(void **)&tls.set_fd = dlsym(library, "SSL_set_fd");
    *(void **)&tls.connect = dlsym(library, "SSL_connect");
    *(void **)&tls.read = dlsym(library, "SSL_read");
    *(void **)&tls.write = dlsym(library, "SSL_write");
    *(void **)&tls.error = dlsym(library, "SSL_get_error");
    *(void **)&tls.ctrl = dlsym(library, "SSL_CTX_ctrl");
    if (!tls.method || !tls.ctrl || !(tls.context = tls.ctx_new(tls.method())))
        fail("OpenSSL cannot be used");
    tls.ctrl(tls.context, CTRL_MODE, PARTIAL_AND_MOVING, NULL);
}

/* Returns the bytes written, or -1 if the socket is full. */
static ssize_t put(Connection *c, const void *data, size_t size) {
    if (c->ssl) {
        int sent = tls.write(c->ssl, data, size > READ_SIZE ? READ_SIZE : (int)size);
        if (sent > 0) return sent;
        int error = tls.error(c->ssl, sent);
        if (error != WANT_WRITE && error != WANT_READ && !finishing)
            fail("TLS error %d while writing", error);
        return -1;
    }
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && !finishing) fail("the peer broke off: %s", strerror(errno));
    return sent;
}

/* Returns the bytes read, 0 at the end, or -1 if there are none yet. */
static ssize_t take(Connection *c, void *data, size_t size) {
    if (c->ssl) {
        int got = tls.read(c->ssl, data, (int)size);
        if (got > 0) return got;
        int error = tls.error(c->ssl, got);
        return error == WANT_READ || error == WANT_WRITE ? -1 : 0;
    }
    ssize_t got = recv(c->fd, data, size, 0);
    if (got < 0) return errno == EAGAIN ? -1 : 0;
    return got;
}

static void watch(Connection *c, bool writable) {
    if (c->wants_write == writable) return;
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event)) fail("epoll: %s", strerror(errno));
    c->wants_write = writable;
}

/* Writes what is due; control frames go at frame boundaries. */
static void flush(Connection *c) {
    while (c->control || c->due) {
        ssize_t sent;
        if (c->control && !c->offset) {
            sent = put(c, c->control + c->control_offset, c->control_size - c->control_offset);
            if (sent > 0 && (c->control_offset += (size_t)sent) == c->control_size) {
                free(c->control);
                c->control = NULL;
            }
        } else {
            uint64_t wanted = c->due * frame_size - c->offset;
            if (c->control) wanted = frame_size - c->offset;
            size_t room = batch_size - c->offset;
            sent = put(c, batch + c->offset, wanted < room ? wanted : room);
            if (sent > 0) {
                size_t reached = c->offset + (size_t)sent;
                c->due -= reached / frame_size;
                c->offset = reached % frame_size;
            }
        }
        if (sent < 0) {
            watch(c, true);
            return;
        }
    }
    watch(c, false);
}

static bool connecting(void) { return options.role[0] == 'c'; }

static void queue_control(Connection *c, int opcode, const uint8_t *data, size_t size) {
    if (c->control) return; /* One at a time is enough for pings that come now and then. */
    size_t head = connecting() ? 6 : 2;
    c->control = allocate(1, head + size);
    c->control[0] = 0x80 | (uint8_t)opcode;
    c->control[1] = (uint8_t)(size | (connecting() ? 0x80 : 0));
    if (connecting()) memcpy(c->control + 2, MASK, 4);
    for (size_t i = 0; i < size; i++)
        c->control[head + i] = data[i] ^ (connecting() ? MASK[i & 3] : 0);
    c->control_size = head + size;
    c->control_offset = 0;
}

static void queue(Connection *c, uint32_t count, uint64_t time) {
    uint32_t capacity = c == connections && options.work == QUIET ? options.flood : options.in_flight;
    for (uint32_t i = 0; i < count; i++)
        c->sent[(c->oldest + c->in_flight++) % capacity] = time;
    c->due += count;
}

static void broadcast(uint64_t time) {
    heard = 0;
    connections[0].sent[0] = time;
    connections[0].due = 1;
    flush(&connections[0]);
}

static void message_done(Connection *c, uint64_t time) {
    bool flooding = c == connections && options.work == QUIET;
    uint32_t capacity = flooding ? options.flood : options.in_flight;
    if (c->message_bytes != options.size)
        fail("%lu bytes came back instead of %zu", c->message_bytes, options.size);
    c->message_bytes = 0;
    c->checked = true;
    returned++;
    if (finishing) return;
    if (options.work == BROADCAST) {
        if (measuring) messages++, record(time - connections[0].sent[0]);
        if (++heard == options.connections) broadcast(time);
        return;
    }
    if (!c->in_flight) fail("a message came back that was not sent");
    if (measuring) {
        messages++;
        if (!flooding) record(time - c->sent[c->oldest]);
    }
    c->oldest = (c->oldest + 1) % capacity;
    c->in_flight--;
    if (options.work == QUIET && !flooding)
        c->next_at = time + (uint64_t)(options.interval * 1e9);
    else if (options.work != BURST)
        queue(c, 1, time);
    else if (!c->in_flight)
        queue(c, capacity, time);
}

/* The first message of each connection is compared byte by byte, the others by length. */
static void check(Connection *c, const uint8_t *data, size_t size, const uint8_t *mask) {
    for (size_t i = 0; i < size; i++) {
        size_t at = c->message_bytes + i;
        if (at >= options.size || (data[i] ^ (mask ? mask[at & 3] : 0)) != payload[at])
            fail("what came back differs from what was sent, at byte %zu", at);
    }
}

static void control_done(Connection *c, const uint8_t *control, size_t size) {
    if (c->opcode == CLOSE) {
        if (!finishing) fail("the peer closed a connection, with a goodbye");
        c->state = CLOSED;
        closed++;
    } else if (c->opcode == PING) {
        queue_control(c, PONG, control, size);
    }
}

/* Returns how long the head of a frame is, as far as it is known. */
static size_t head_length(const Connection *c) {
    if (c->head_have < 2) return 2;
    size_t length = c->head[1] & 0x7f;
    return 2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + (c->head[1] & 0x80 ? 4 : 0);
}

static void head_done(Connection *c) {
    uint64_t length = c->head[1] & 0x7f;
    if (length >= 126) {
        int bytes = length == 126 ? 2 : 8;
        length = 0;
        for (int i = 0; i < bytes; i++) length = length << 8 | c->head[2 + i];
    }
    c->final = c->head[0] & 0x80;
    c->opcode = c->head[0] & 0x0f;
    if (c->head[0] & 0x70) fail("a frame has reserved bits set");
    if (!(c->head[1] & 0x80) == !connecting()) fail("a frame is masked that must not be, or not");
    if (c->opcode >= CLOSE && length > 125) fail("a control frame is too long");
    if (c->opcode && c->opcode <= BINARY && c->opcode != options.opcode)
        fail("opcode %d came back instead of %d", c->opcode, options.opcode);
    c->left = length;
}

static void parse_raw(Connection *c, size_t size, uint64_t time) {
    while (size) {
        size_t part = options.size - c->message_bytes;
        if (part > size) part = size;
        c->message_bytes += part;
        size -= part;
        if (c->message_bytes == options.size) message_done(c, time);
    }
}

static void parse(Connection *c, const uint8_t *data, size_t size, uint64_t time) {
    static uint8_t control[125];
    const uint8_t *end = data + size;
    while (c->state == OPEN) {
        size_t wanted = head_length(c);
        while (c->head_have < wanted && data < end) {
            c->head[c->head_have++] = *data++;
            if (c->head_have == 2) wanted = head_length(c);
            if (c->head_have == wanted) head_done(c);
        }
        if (c->head_have < wanted) return;
        size_t part = (size_t)(end - data) < c->left ? (size_t)(end - data) : c->left;
        if (c->opcode >= CLOSE) {
            /* A ping that is cut by a read is not answered; none comes in the time of a work. */
            bool whole = part == c->left && part == (c->head[1] & 0x7f);
            c->left -= part;
            if (c->left) return;
            for (size_t i = 0; whole && i < part; i++)
                control[i] = data[i] ^ (connecting() ? 0 : c->head[2 + (i & 3)]);
            if (whole || c->opcode == CLOSE) control_done(c, control, part);
        } else {
            const uint8_t *mask = connecting() ? NULL : c->head + wanted - 4;
            if (!c->checked) check(c, data, part, mask);
            c->message_bytes += part;
            c->left -= part;
            if (c->left) return;
            if (c->final) message_done(c, time);
        }
        data += part;
        c->head_have = 0;
    }
}

/* The opening handshake, from either side. */

static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

/* RFC 6455 §4.2.2 wants SHA-1; keys are short, so that two blocks are enough. */
static void accept_key(const char *key, char accept[29]) {
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t block[128] = {0}, digest[21] = {0};
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t length = (size_t)snprintf((char *)block, 119, "%.24s%s", key,
                                     "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    block[length] = 0x80;
    block[126] = (uint8_t)(length * 8 >> 8);
    block[127] = (uint8_t)(length * 8);
    for (uint8_t *part = block; part < block + 128; part += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++)
            w[i] = i < 16 ? (uint32_t)part[4 * i] << 24 | (uint32_t)part[4 * i + 1] << 16 |
                                (uint32_t)part[4 * i + 2] << 8 | part[4 * i + 3]
                          : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                  : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = rotate(a, 5) + f + e + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t bits = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 |
                        digest[3 * i + 2];
        for (int j = 0; j < 4; j++) accept[4 * i + j] = ALPHABET[bits >> (18 - 6 * j) & 63];
    }
    accept[27] = '=';
    accept[28] = 0;
}

static void open_done(Connection *c) {
    free(c->http);
    c->http = NULL;
    c->state = OPEN;
    opened++;
    opening--;
}

static void request(Connection *c) {
    c->state = HANDSHAKE;
    if (options.raw) {
        open_done(c);
        return;
    }
    c->http = allocate(1, HEAD_SIZE);
    int length = snprintf(c->http, HEAD_SIZE,
                          "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          options.port, KEY);
    if (put(c, c->http, (size_t)length) != length) fail("the socket took no request");
}

static void reopen(Connection *c);

static void answered(Connection *c, char *end) {
    size_t head = (size_t)(end - c->http) + 4, rest = c->http_have - head;
    uint8_t early[HEAD_SIZE];
    if (connecting()) {
        if (strncmp(c->http, "HTTP/1.1 101", 12))
            fail("the answer to the handshake is %.*s", (int)strcspn(c->http, "\r\n"), c->http);
    } else {
        char answer[256], accept[29], *key = strcasestr(c->http, "\r\nsec-websocket-key:");
        if (!key) fail("the request has no key");
        for (key += 20; *key == ' '; key++) {}
        accept_key(key, accept);
        int length = snprintf(answer, sizeof answer,
                              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
        if (put(c, answer, (size_t)length) != length) fail("the socket took no answer");
    }
    memcpy(early, c->http + head, rest);
    open_done(c);
    if (options.work == HANDSHAKES) {
        uint64_t time = now();
        if (measuring) messages++, record(time - c->opened_at);
        reopen(c);
    } else if (rest) {
        parse(c, early, rest, now());
    }
}

static void tls_step(Connection *c) {
    int done = tls.connect(c->ssl);
    if (done == 1) {
        watch(c, false);
        request(c);
        return;
    }
    int error = tls.error(c->ssl, done);
    if (error != WANT_READ && error != WANT_WRITE) fail("the TLS handshake failed: %d", error);
    watch(c, error == WANT_WRITE);
}

static void add(Connection *c, bool writable) {
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    c->wants_write = writable;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll: %s", strerror(errno));
    opening++;
}

static void open_one(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("no socket: %s", strerror(errno));
    c->state = CONNECTING;
    c->opened_at = now();
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("cannot connect: %s", strerror(errno));
    add(c, true);
}

/* A reset leaves no port behind in TIME_WAIT; there are too few of them for a second's work. */
static void reopen(Connection *c) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(c->fd);
    c->http_have = 0;
    open_one(c);
}

static void connected(Connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("cannot connect: %s", strerror(error));
    watch(c, false);
    if (options.tls) {
        c->ssl = tls.ssl_new(tls.context);
        tls.set_fd(c->ssl, c->fd);
        c->state = TLS;
        tls_step(c);
    } else {
        request(c);
    }
}

static void readable(Connection *c) {
    /* OpenSSL may hold bytes that epoll knows nothing of, so that it is read until it has none. */
    do {
        if (c->state == HANDSHAKE) {
            if (!c->http) c->http = allocate(1, HEAD_SIZE);
            ssize_t got = take(c, c->http + c->http_have, HEAD_SIZE - 1 - c->http_have);
            if (got < 0) return;
            if (!got) fail("the peer broke off the handshake");
            c->http_have += (size_t)got;
            c->http[c->http_have] = 0;
            char *end = strstr(c->http, "\r\n\r\n");
            if (end) answered(c, end);
        } else {
            ssize_t got = take(c, incoming, READ_SIZE);
            if (got < 0) break;
            if (!got && !finishing) fail("the peer closed a connection");
            if (!got) {
                if (c->state == OPEN) closed++;
                c->state = CLOSED;
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
                break;
            }
            uint64_t time = now();
            if (options.raw)
                parse_raw(c, (size_t)got, time);
            else if (c->state == OPEN)
                parse(c, incoming, (size_t)got, time);
        }
    } while (c->ssl && c->state != CLOSED);
    if (c->state == OPEN) flush(c);
}

static int listening_fd = -1;

static void accept_all(void) {
    int fd;
    while ((fd = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (started == options.connections) fail("more connections came than were asked for");
        Connection *c = &connections[started++];
        c->fd = fd;
        c->state = HANDSHAKE;
        add(c, false);
    }
}

static void step(int timeout) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, timeout);
    for (int i = 0; i < count; i++) {
        Connection *c = events[i].data.ptr;
        if (!c) accept_all();
        else if (c->state == CONNECTING) connected(c);
        else if (c->state == TLS) tls_step(c);
        else {
            if (events[i].events & EPOLLOUT && c->state == OPEN) flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
        }
    }
}

static void send_due_quiet(uint64_t time) {
    for (uint32_t i = 1; i < options.connections; i++) {
        Connection *c = &connections[i];
        if (!c->in_flight && time >= c->next_at) {
            queue(c, 1, time);
            flush(c);
        }
    }
}

static void run_for(double seconds) {
    uint64_t time = now(), end = time + (uint64_t)(seconds * 1e9);
    while (time < end) {
        if (options.work == QUIET) send_due_quiet(time);
        uint64_t left = (end - time) / 1000000;
        int longest = options.work == QUIET ? 1 : 50;
        step(left < (uint64_t)longest ? (int)left : longest);
        time = now();
    }
}

/* A server that takes all its connections in turns may need longer than it is given for one turn,
 * and a part of a turn is no measurement. So echoing goes on, for up to so many times as long, until
 * as many messages have come back as make so many turns. */
static void run_turns(double seconds, uint32_t turns) {
    uint64_t enough = options.work == ECHO ? (uint64_t)turns * options.connections : 0;
    uint64_t before = returned;
    for (int i = 0; i < STRETCH; i++) {
        run_for(seconds);
        if (returned - before >= enough) return;
    }
}

static void open_all(void) {
    while (opened < options.connections) {
        while (connecting() && started < options.connections && opening < OPENING)
            open_one(&connections[started++]);
        step(1000);
        if (options.work == HANDSHAKES && started == options.connections) return;
    }
}

static void start(void) {
    uint64_t time = now();
    for (uint32_t i = 0; i < options.connections; i++) {
        Connection *c = &connections[i];
        bool flooding = options.work == QUIET && !i;
        uint32_t capacity = flooding ? options.flood : options.in_flight;
        c->sent = allocate(capacity, sizeof *c->sent);
        if (options.work == QUIET && i)
            c->next_at = time + (uint64_t)(options.interval * 1e9 * i / options.connections);
        else if (options.work != BROADCAST)
            queue(c, capacity, time);
    }
    if (options.work == BROADCAST) broadcast(time);
    for (uint32_t i = 0; i < options.connections; i++) flush(&connections[i]);
}

/* Says goodbye, so that the server has no errors to log, and waits a moment for the answers. */
static void finish(void) {
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 0xff};
    /* The last two have servers of their own, which are killed. */
    if (options.raw || options.work == HANDSHAKES || options.work == IDLE) return;
    finishing = true;
    for (uint32_t i = 0; i < options.connections; i++) {
        Connection *c = &connections[i];
        if (c->state != OPEN) continue;
        c->due = c->offset ? 1 : 0;
        queue_control(c, CLOSE, normal, 2);
        flush(c);
    }
    uint64_t end = now() + 1000000000;
    while (closed < opened && now() < end) step(10);
}

static void build_frames(void) {
    static const char TEXT_PATTERN[] = "Ol\xc3\xa1, servidor! ";
    uint8_t head[14];
    size_t head_size = 0;
    payload = allocate(options.size, 1);
    for (size_t i = 0; i < options.size; i++)
        payload[i] = options.opcode == TEXT ? '.' : (uint8_t)(i * 7 + 1);
    for (size_t i = 0; options.opcode == TEXT && i + 16 <= options.size; i += 16)
        memcpy(payload + i, TEXT_PATTERN, 16);
    if (!options.raw) {
        uint8_t masked = connecting() ? 0x80 : 0;
        head[head_size++] = 0x80 | (uint8_t)options.opcode;
        int bytes = options.size < 126 ? 0 : options.size < 65536 ? 2 : 8;
        head[head_size++] =
            masked | (uint8_t)(bytes == 0 ? options.size : bytes == 2 ? 126 : 127);
        while (bytes--) head[head_size++] = (uint8_t)(options.size >> (8 * bytes));
        if (masked) memcpy(head + head_size, MASK, 4), head_size += 4;
    }
    frame_size = head_size + options.size;
    uint32_t most = options.flood > options.in_flight ? options.flood : options.in_flight;
    size_t copies = BATCH_SIZE / frame_size;
    if (copies > most) copies = most;
    if (copies < 1) copies = 1;
    batch_size = copies * frame_size;
    batch = allocate(batch_size, 1);
    for (uint8_t *frame = batch; frame < batch + batch_size; frame += frame_size) {
        memcpy(frame, head, head_size);
        for (size_t i = 0; i < options.size; i++)
            frame[head_size + i] =
                payload[i] ^ (!options.raw && connecting() ? MASK[i & 3] : 0);
    }
}

static void listen_for_client(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int pid;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listening_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listening_fd < 0 || bind(listening_fd, (struct sockaddr *)&address, sizeof address) ||
        listen(listening_fd, 1024) ||
        getsockname(listening_fd, (struct sockaddr *)&address, &size))
        fail("cannot listen: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listening_fd, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    if (scanf("%d", &pid) != 1) fail("nobody said which process to measure");
    options.pid = pid;
}

static void parse_options(int count, char **arguments) {
    static const char *WORKS[] = {"echo", "burst", "quiet", "broadcast", "handshakes", "idle"};
    static const struct option LONG[] = {
        {"role", 1, 0, 'r'}, {"work", 1, 0, 'w'}, {"port", 1, 0, 'p'}, {"pid", 1, 0, 'P'},
        {"connections", 1, 0, 'c'}, {"in-flight", 1, 0, 'i'}, {"size", 1, 0, 's'},
        {"text", 0, 0, 't'}, {"tls", 0, 0, 'T'}, {"raw", 0, 0, 'R'}, {"flood", 1, 0, 'f'},
        {"warmup", 1, 0, 'u'}, {"seconds", 1, 0, 'S'}, {"interval", 1, 0, 'I'}, {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(count, arguments, "", LONG, NULL)) != -1) switch (letter) {
        case 'r': options.role = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.pid = atoi(optarg); break;
        case 'c': options.connections = (uint32_t)atoi(optarg); break;
        case 'i': options.in_flight = (uint32_t)atoi(optarg); break;
        case 's': options.size = (size_t)atol(optarg); break;
        case 't': options.opcode = TEXT; break;
        case 'T': options.tls = true; break;
        case 'R': options.raw = true; break;
        case 'f': options.flood = (uint32_t)atoi(optarg); break;
        case 'u': options.warmup = atof(optarg); break;
        case 'S': options.seconds = atof(optarg); break;
        case 'I': options.interval = atof(optarg); break;
        case 'w':
            for (int i = 0; i < 6; i++)
                if (!strcmp(optarg, WORKS[i])) options.work = (Work)i;
            break;
        default: exit(2);
        }
    if (!options.connections || !options.in_flight || !options.size || options.seconds > 600)
        fail("an option is out of range");
}

int main(int count, char **arguments) {
    parse_options(count, arguments);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    /* Whatever goes wrong, it ends by itself. */
    alarm((unsigned)(STRETCH * (options.warmup + options.seconds) + 60));
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = allocate(options.connections, sizeof *connections);
    incoming = allocate(READ_SIZE, 1);
    build_frames();
    if (options.tls) load_tls();
    if (!connecting()) listen_for_client();

    uint64_t memory = memory_of(options.pid);
    open_all();
    /* A server may know a connection a moment after its client does; then it would miss some. */
    if (options.work == BROADCAST) run_for(0.3);
    if (options.work != HANDSHAKES && options.work != IDLE) start();
    run_turns(options.warmup, 1);
    uint64_t cpu = cpu_of(options.pid), own = clock_read(CLOCK_PROCESS_CPUTIME_ID), begin = now();
    uint64_t memory_after = memory_of(options.pid);
    measuring = true;
    run_turns(options.seconds, TURNS);
    measuring = false;
    cpu = cpu_of(options.pid) - cpu;
    own = clock_read(CLOCK_PROCESS_CPUTIME_ID) - own;
    double seconds = (double)(now() - begin) / 1e9;
    finish();
    printf("{\"messages\": %lu, \"seconds\": %.6f, \"cpu\": %.6f, \"own_cpu\": %.6f, "
           "\"p50\": %.9f, \"p99\": %.9f, \"memory\": %ld}\n",
           messages, seconds, (double)cpu / 1e9, (double)own / 1e9, percentile(0.5),
           percentile(0.99), (long)(memory_after - memory));
    return 0;
}
