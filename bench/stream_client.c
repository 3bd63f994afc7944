/* Reads streams as fast as they come and says when their bytes arrived.
 *
 *   stream_client PORT PATH CONNECTIONS SECONDS BODIES SKIP SPREAD [HEADER]...
 *
 * The connections begin one after the other within SPREAD milliseconds, as evenly as any number of them can and never in step.
 * Each connection sends a request (a line of the file BODIES, in turn, the first SKIP at the end), reads its chunked reply to the end, and sends the
 * next one until SECONDS are over. Printed is one JSON line, times in microseconds:
 *
 *   {"streams","microseconds","bad","events","reads",
 *    "first_p50","first_p99"    from the request's sending to the first byte of the body
 *    "total_p50","total_p99"    to its last byte
 *    "delay_p50","delay_p99"}   of an event, from the upstream's stamp in it ("fp_<nanoseconds>") to its arrival
 *
 * A stream is bad that is not a 200, has no [DONE] as its last event, or breaks off; its connection is opened anew.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 65536, HEAD_BYTES = 8192, STAMP_DIGITS = 19 };

enum phase { HEAD, SIZE, EXTENSION, DATA, DATA_END, TRAILER };

struct samples {
    uint32_t *at; /* microseconds */
    size_t count, room;
};

struct connection {
    int fd;
    enum phase phase;
    char head[HEAD_BYTES];
    size_t head_length;
    uint64_t chunk_left, sent_at, first_at;
    int size_digits, line_empty, stamp_at, done_at;
    uint64_t stamp;
};

static struct samples first, total, delay;
static char **bodies;
static size_t body_count, next_body;
static uint64_t bad, streams, reads, ends_at, began_at;
static int epoll_fd, port, running;
static const char *path;
static char headers[HEAD_BYTES]; /* further ones, as lines */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_sample(struct samples *s, uint64_t ns) {
    if (s->count == s->room) s->at = realloc(s->at, (s->room = s->room ? s->room * 2 : 4096) * sizeof *s->at);
    s->at[s->count++] = (uint32_t)(ns / 1000);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(struct samples *s, double share) { /* sorted; nearest rank */
    return s->count ? s->at[(size_t)(share * (double)(s->count - 1) + 0.5)] : 0;
}

/* Finds the stamps and the final event in the body, a byte at a time, wherever the chunks are cut. */
static void scan(struct connection *c, const char *data, size_t length, uint64_t now) {
    static const char stamp[] = "fp_", done[] = "data: [DONE]";
    for (size_t i = 0; i < length; i++) {
        char b = data[i];
        if (c->stamp_at < 3) {
            c->stamp_at = b == stamp[c->stamp_at] ? c->stamp_at + 1 : b == 'f';
            if (c->stamp_at == 3) c->stamp = 0;
        } else if (b >= '0' && b <= '9') {
            c->stamp = c->stamp * 10 + (uint64_t)(b - '0');
            if (++c->stamp_at == 3 + STAMP_DIGITS) {
                if (now > c->stamp) add_sample(&delay, now - c->stamp);
                c->stamp_at = 0;
            }
        } else {
            c->stamp_at = 0;
        }
        if (c->done_at < (int)sizeof done - 1) c->done_at = b == done[c->done_at] ? c->done_at + 1 : b == 'd';
    }
}

static int send_request(struct connection *c) {
    char out[READ_BYTES];
    const char *body = bodies[next_body++ % body_count];
    int n = snprintf(out, sizeof out,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                     "Authorization: Bearer sk-bench\r\n%sContent-Length: %zu\r\n\r\n%s", path, port, headers, strlen(body), body);
    c->phase = HEAD;
    c->head_length = 0;
    c->first_at = 0;
    c->stamp_at = c->done_at = 0;
    c->sent_at = now_ns();
    return n < (int)sizeof out && send(c->fd, out, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static void dial(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    if (send_request(c)) die("send");
}

static void finish(struct connection *c, uint64_t now, int good) {
    if (good) {
        streams++;
        add_sample(&first, c->first_at - c->sent_at);
        add_sample(&total, now - c->sent_at);
    } else {
        bad++;
        close(c->fd);
    }
    if (now >= ends_at) {
        if (good) close(c->fd);
        running--;
    } else if (!good) {
        usleep(1000); /* a server that refuses everything is not to be hammered */
        dial(c);
    } else if (send_request(c)) {
        die("send");
    }
}

/* The head: 1 it is whole and a chunked 200, 0 more is wanted, -1 anything else. */
static int take_head(struct connection *c, const char **at, size_t *left) {
    while (*left) {
        if (c->head_length + 1 >= sizeof c->head) return -1;
        c->head[c->head_length++] = *(*at)++;
        (*left)--;
        if (c->head_length >= 4 && !memcmp(c->head + c->head_length - 4, "\r\n\r\n", 4)) {
            c->head[c->head_length] = 0;
            if (strncmp(c->head, "HTTP/1.1 200", 12) || !strcasestr(c->head, "transfer-encoding: chunked")) return -1;
            c->phase = SIZE;
            c->chunk_left = 0;
            c->size_digits = 0;
            return 1;
        }
    }
    return 0;
}

/* Decode chunked coding; 1 the stream is over, 0 more is wanted, -1 it is broken. */
static int take_body(struct connection *c, const char *at, size_t left, uint64_t now) {
    while (left) {
        if (c->phase == DATA) {
            size_t n = left < c->chunk_left ? left : (size_t)c->chunk_left;
            if (!c->first_at) c->first_at = now;
            scan(c, at, n, now);
            at += n;
            left -= n;
            if (!(c->chunk_left -= n)) c->phase = DATA_END;
            continue;
        }
        char b = *at++;
        left--;
        if (c->phase == DATA_END) {
            if (b == '\n') {
                c->phase = SIZE;
                c->chunk_left = 0;
                c->size_digits = 0;
            }
        } else if (c->phase == TRAILER) {
            if (b == '\n' && c->line_empty) return c->done_at == 12 ? 1 : -1;
            c->line_empty = b == '\n' || (b == '\r' && c->line_empty);
        } else if (b == '\n') { /* the end of a chunk's size */
            if (!c->size_digits) return -1;
            c->phase = c->chunk_left ? DATA : TRAILER;
            c->line_empty = 1;
        } else if (c->phase == SIZE) {
            int digit = b >= '0' && b <= '9' ? b - '0' : (b | 32) >= 'a' && (b | 32) <= 'f' ? (b | 32) - 'a' + 10 : -1;
            if (digit < 0) {
                c->phase = EXTENSION;
            } else {
                c->chunk_left = c->chunk_left * 16 + (uint64_t)digit;
                c->size_digits++;
            }
        }
    }
    return 0;
}

static void read_some(struct connection *c) {
    static char data[READ_BYTES];
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    uint64_t now = now_ns();
    if (n <= 0) {
        finish(c, now, 0);
        return;
    }
    reads++;
    const char *at = data;
    size_t left = (size_t)n;
    int state = c->phase == HEAD ? take_head(c, &at, &left) : 1;
    if (state == 1) state = take_body(c, at, left, now);
    if (state) finish(c, now, state == 1);
}

static void read_bodies(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    size_t room = 0, line_room = 0;
    char *line = NULL;
    for (ssize_t n; (n = getline(&line, &line_room, file)) > 0;) {
        line[strcspn(line, "\n")] = 0;
        if (body_count == room) bodies = realloc(bodies, (room = room * 2 + 1024) * sizeof *bodies);
        bodies[body_count++] = strdup(line);
    }
    free(line);
    fclose(file);
}

static int by_time(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fprintf(stderr, "usage: stream_client PORT PATH CONNECTIONS SECONDS BODIES SKIP SPREAD [HEADER]...\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    port = atoi(argv[1]);
    path = argv[2];
    running = atoi(argv[3]);
    read_bodies(argv[5]);
    next_body = strtoul(argv[6], NULL, 10);
    uint64_t spread = strtoul(argv[7], NULL, 10) * 1000000u;
    for (int i = 8; i < argc; i++) {
        size_t used = strlen(headers);
        snprintf(headers + used, sizeof headers - used, "%s\r\n", argv[i]);
    }
    epoll_fd = epoll_create1(0);
    int count = running, dialled = 0;
    struct connection *all = calloc((size_t)count, sizeof *all);
    uint64_t *starts = calloc((size_t)count, sizeof *starts);
    for (int i = 0; i < count; i++) { /* multiples of the golden ratio, less their whole part, leave no gap and no pile */
        starts[i] = (uint64_t)((double)((uint32_t)i * 2654435769u) / 4294967296.0 * (double)spread);
    }
    qsort(starts, (size_t)count, sizeof *starts, by_time);
    began_at = now_ns();
    ends_at = began_at + (uint64_t)(atof(argv[4]) * 1e9);
    while (running) {
        struct epoll_event events[512];
        while (dialled < count && began_at + starts[dialled] <= now_ns()) dial(all + dialled++);
        int wait = 10000;
        if (dialled < count) {
            uint64_t due = began_at + starts[dialled], now = now_ns();
            wait = due > now ? (int)((due - now) / 1000000u) : 0;
        }
        int n = epoll_wait(epoll_fd, events, 512, wait);
        if (n == 0 && dialled == count) { /* ten seconds of silence: what is still open has hung */
            bad += (uint64_t)running;
            break;
        }
        for (int i = 0; i < n; i++) read_some(events[i].data.ptr);
    }
    uint64_t took = now_ns() - began_at;
    struct samples *sets[] = {&first, &total, &delay};
    for (int i = 0; i < 3; i++) qsort(sets[i]->at, sets[i]->count, sizeof *sets[i]->at, by_value);
    printf("{\"streams\":%llu,\"microseconds\":%llu,\"bad\":%llu,\"events\":%zu,\"reads\":%llu,"
           "\"first_p50\":%u,\"first_p99\":%u,\"total_p50\":%u,\"total_p99\":%u,\"delay_p50\":%u,\"delay_p99\":%u}\n",
           (unsigned long long)streams, (unsigned long long)(took / 1000), (unsigned long long)bad, delay.count,
           (unsigned long long)reads, percentile(&first, 0.5), percentile(&first, 0.99), percentile(&total, 0.5),
           percentile(&total, 0.99), percentile(&delay, 0.5), percentile(&delay, 0.99));
    return 0;
}
