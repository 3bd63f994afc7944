/* A model provider that costs almost nothing: an epoll server on loopback that answers OpenAI-shaped chat completions.
 *
 *   upstream PORT REPLIES DELTAS
 *
 * REPLIES is a file of JSON bodies, one a line; whole replies are taken from it in turn. Where one has the word "Keywords:"
 * it is followed by four words of six letters, which are changed each time, so that no two replies are ever equal. DELTAS is a file of JSON string literals, one a line; streams are made of them, in turn too.
 * The request says by its model what it wants, so that any proxy passes the wish on:
 *
 *   {"model":"whole", ...}        a whole reply, another one each time
 *   {"model":"same", ...}         a whole reply, always the same
 *   {"model":"sse-N-U", ...}      N events, U microseconds apart; 0 sends them back to back, each by a send() of its own
 *
 * Each event carries CLOCK_MONOTONIC at its sending ("obfuscation":"fp_<19 digits of nanoseconds>"), which a
 * reader on the same machine subtracts from its own clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { KEYWORDS = 4, LETTERS = 6 };

static const char words[64][LETTERS + 1] = {
    "accent", "anchor", "answer", "autumn", "barrel", "basket", "beacon", "branch", "bridge", "bronze", "button",
    "camera", "candle", "canvas", "carpet", "castle", "cellar", "cherry", "circle", "copper", "cotton", "desert",
    "dinner", "drawer", "engine", "family", "fabric", "filter", "flower", "forest", "garden", "ginger", "hammer",
    "harbor", "island", "jacket", "kettle", "ladder", "lesson", "letter", "market", "meadow", "mirror", "museum",
    "needle", "office", "orange", "parcel", "pencil", "pepper", "planet", "pocket", "powder", "puzzle", "ribbon",
    "rocket", "saddle", "school", "silver", "spring", "summer", "temple", "tunnel", "window"};

enum { IN_BYTES = 1 << 20, FRAME_BYTES = 1024, EVENTS = 512 };

struct slice {
    char *at;
    size_t length;
    char *keywords; /* in `at`, or NULL */
};

struct connection {
    int fd;
    char *in; /* a request until it is whole */
    size_t filled, room;
    char out[FRAME_BYTES]; /* a frame or the rest of one that the socket did not take */
    size_t out_at, out_length;
    const char *large; /* the rest of a whole reply that the socket did not take */
    size_t large_length;
    int frames_left, heap_at; /* heap_at: 1-based place among the paced, 0 when not there */
    int head_due, writable_wanted;
    uint64_t interval, due; /* ns; 0: back to back */
    unsigned delta;
};

static struct slice *replies, *deltas, same;
static size_t reply_count, delta_count, next_reply, next_delta;
static struct connection **heap;
static int heap_length, heap_room, epoll_fd, timer_fd, listen_fd;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct slice *read_lines(const char *path, size_t *count) {
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    size_t room = 1024, n = 0, line_room = 0;
    struct slice *lines = malloc(room * sizeof *lines);
    char *line = NULL;
    ssize_t length;
    while ((length = getline(&line, &line_room, file)) > 0) {
        if (line[length - 1] == '\n') length--;
        if (n == room) lines = realloc(lines, (room *= 2) * sizeof *lines);
        lines[n].at = memcpy(malloc((size_t)length), line, (size_t)length);
        lines[n++].length = (size_t)length;
    }
    free(line);
    fclose(file);
    if (!n) {
        fprintf(stderr, "%s: empty\n", path);
        exit(1);
    }
    *count = n;
    return lines;
}

/* Put the head before each body once, so that a reply is one send(). */
static void add_heads(void) {
    for (size_t i = 0; i < reply_count; i++) {
        char head[160];
        int n = snprintf(head, sizeof head,
                         "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_%08zu\r\n"
                         "content-length: %zu\r\n\r\n", i, replies[i].length);
        char *whole = malloc((size_t)n + replies[i].length);
        memcpy(whole, head, (size_t)n);
        memcpy(whole + n, replies[i].at, replies[i].length);
        free(replies[i].at);
        replies[i].at = whole;
        replies[i].length += (size_t)n;
        char *mark = memmem(whole, replies[i].length, "Keywords: ", 10);
        replies[i].keywords = mark ? mark + 10 : NULL;
    }
    same = replies[0];
    same.at = memcpy(malloc(same.length), same.at, same.length);
}

/* Write other keywords into a reply: 64^4 ways, in an order in which the first word changes each time. */
static void change_keywords(struct slice *reply, size_t number) {
    for (int i = 0; reply->keywords && i < KEYWORDS; i++, number /= 64)
        memcpy(reply->keywords + i * (LETTERS + 1), words[number % 64], LETTERS);
}

/* A binary heap of connections by the time their next frame is due. */
static void heap_put(int at, struct connection *c) {
    heap[at] = c;
    c->heap_at = at;
}

static void heap_up(int at) {
    struct connection *c = heap[at];
    for (; at > 1 && heap[at / 2]->due > c->due; at /= 2) heap_put(at, heap[at / 2]);
    heap_put(at, c);
}

static void heap_down(int at) {
    struct connection *c = heap[at];
    for (int child; (child = at * 2) <= heap_length; at = child) {
        if (child < heap_length && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        heap_put(at, heap[child]);
    }
    heap_put(at, c);
}

static void heap_add(struct connection *c) {
    if (heap_length + 2 > heap_room) {
        heap_room = heap_room ? heap_room * 2 : 64;
        heap = realloc(heap, (size_t)heap_room * sizeof *heap);
    }
    heap_put(++heap_length, c);
    heap_up(heap_length);
}

static void heap_remove(struct connection *c) {
    int at = c->heap_at;
    if (!at) return;
    struct connection *last = heap[heap_length--];
    c->heap_at = 0;
    if (last == c) return;
    heap_put(at, last);
    heap_up(at);
    heap_down(last->heap_at);
}

static void arm_timer(void) {
    struct itimerspec when = {0};
    if (heap_length) {
        when.it_value.tv_sec = (time_t)(heap[1]->due / 1000000000u);
        when.it_value.tv_nsec = (long)(heap[1]->due % 1000000000u);
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void drop(struct connection *c) {
    heap_remove(c);
    close(c->fd);
    free(c->in);
    free(c);
}

static void want_writable(struct connection *c, int wanted) {
    if (c->writable_wanted == wanted) return;
    c->writable_wanted = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* Send what is left of `*at`; 1 all of it went, 0 the socket is full, -1 the peer is gone. */
static int push(struct connection *c, const char **at, size_t *length) {
    while (*length) {
        ssize_t n = send(c->fd, *at, *length, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) return -1;
            want_writable(c, 1);
            return 0;
        }
        *at += n;
        *length -= (size_t)n;
    }
    return 1;
}

/* The next frame of a stream, as one chunk of chunked coding; the first one brings the head along. */
static void make_frame(struct connection *c) {
    char body[FRAME_BYTES / 2];
    int n;
    if (c->frames_left > 1) {
        struct slice d = deltas[c->delta++ % delta_count];
        n = snprintf(body, sizeof body,
                     "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                     "\"model\":\"bench\",\"obfuscation\":\"fp_%019llu\",\"choices\":[{\"index\":0,"
                     "\"delta\":{\"content\":%.*s},\"finish_reason\":null}]}\n\n",
                     (unsigned long long)now_ns(), (int)d.length, d.at);
    } else if (c->frames_left == 1) {
        n = snprintf(body, sizeof body,
                     "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                     "\"model\":\"bench\",\"obfuscation\":\"fp_%019llu\",\"choices\":[{\"index\":0,"
                     "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
                     (unsigned long long)now_ns());
    } else {
        n = snprintf(body, sizeof body, "data: [DONE]\n\n");
    }
    c->out_at = 0;
    c->out_length = (size_t)snprintf(
        c->out, sizeof c->out, "%s%x\r\n%.*s\r\n%s",
        c->head_due ? "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                      "transfer-encoding: chunked\r\n\r\n" : "",
        (unsigned)n, n, body, c->frames_left ? "" : "0\r\n\r\n");
    c->head_due = 0;
    c->frames_left--; /* -1: the stream is over */
}

/* Send what is due; -1 when the peer is gone. */
static int progress(struct connection *c) {
    int sent = push(c, &c->large, &c->large_length);
    while (sent == 1) {
        const char *at = c->out + c->out_at;
        sent = push(c, &at, &c->out_length);
        c->out_at = (size_t)(at - c->out);
        if (sent != 1 || c->frames_left < 0 || c->heap_at) break;
        if (c->interval && !c->head_due && c->frames_left) { /* [DONE] follows the last event at once, as in life */
            c->due += c->interval;
            heap_add(c);
            break;
        }
        make_frame(c);
    }
    if (sent == 1) want_writable(c, 0);
    return sent;
}

static void begin(struct connection *c, const char *body, size_t length) {
    const char *model = memmem(body, length, "\"model\":", 8); /* a proxy that writes the body anew may put it last */
    model = model ? model + 8 : "";
    while (*model == ' ') model++;
    int frames = 0;
    unsigned long pause = 0;
    if (sscanf(model, "\"sse-%d-%lu\"", &frames, &pause) == 2 && frames > 0) {
        c->frames_left = frames;
        c->interval = pause * 1000u;
        c->due = now_ns();
        c->head_due = 1;
        c->delta = (unsigned)next_delta;
        next_delta = (next_delta + (size_t)frames) % delta_count;
        return;
    }
    struct slice *reply = &same;
    if (strncmp(model, "\"same\"", 6)) {
        reply = &replies[next_reply % reply_count];
        change_keywords(reply, next_reply++);
    }
    c->large = reply->at;
    c->large_length = reply->length;
}

/* The length of the whole request in `in`, 0 while it is not there, -1 when it cannot be read. */
static ssize_t request_length(struct connection *c, size_t *head_length) {
    char *end = memmem(c->in, c->filled, "\r\n\r\n", 4);
    if (!end) return c->filled < 65536 ? 0 : -1;
    *head_length = (size_t)(end - c->in) + 4;
    *end = 0;
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    size_t body = field ? strtoul(field + 17, NULL, 10) : 0;
    int chunked = strcasestr(c->in, "\r\ntransfer-encoding:") != NULL;
    *end = '\r';
    if (chunked || body > IN_BYTES) return -1;
    return c->filled < *head_length + body ? 0 : (ssize_t)(*head_length + body);
}

static int take_input(struct connection *c) {
    if (c->room - c->filled < 16384 && c->room < 2 * IN_BYTES) c->in = realloc(c->in, c->room = c->room * 2 + 32768);
    ssize_t n = recv(c->fd, c->in + c->filled, c->room - c->filled - 1, 0);
    if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    c->filled += (size_t)n;
    while (c->filled && c->frames_left < 0 && !c->out_length && !c->large_length) {
        size_t head = 0;
        ssize_t length = request_length(c, &head);
        if (length <= 0) return (int)length;
        char kept = c->in[length];
        c->in[length] = 0; /* for sscanf, which reads to a zero */
        begin(c, c->in + head, (size_t)length - head);
        c->in[length] = kept;
        memmove(c->in, c->in + length, c->filled - (size_t)length);
        c->filled -= (size_t)length;
        if (progress(c) < 0) return -1;
    }
    return 0;
}

static void accept_all(void) {
    for (int fd; (fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->frames_left = -1;
        c->large = "";
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void send_due(void) {
    uint64_t ticks, now = now_ns();
    if (read(timer_fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timerfd");
    while (heap_length && heap[1]->due <= now) {
        struct connection *c = heap[1];
        heap_remove(c);
        if (!c->out_length) make_frame(c); /* else the reader is slow, and this turn is lost */
        if (progress(c) < 0) drop(c);
    }
}

static void listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listen_fd, (struct sockaddr *)&address, sizeof address) || listen(listen_fd, 4096)) die("listen");
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: upstream PORT REPLIES DELTAS\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    replies = read_lines(argv[2], &reply_count);
    deltas = read_lines(argv[3], &delta_count);
    add_heads();
    listen_on(atoi(argv[1]));
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listen_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    event.data.ptr = &timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    for (struct epoll_event events[EVENTS];;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1), timed = 0;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &listen_fd) {
                accept_all();
            } else if (events[i].data.ptr == &timer_fd) {
                timed = 1; /* last, since it may drop connections that events of this round still name */
            } else {
                struct connection *c = events[i].data.ptr;
                int gone = (events[i].events & EPOLLOUT) && progress(c) < 0;
                if (gone || take_input(c) < 0) drop(c);
            }
        }
        if (timed) send_due();
        if (n > 0) arm_timer();
    }
}
