/*
 * The loop of a load that does not batch: one connection that is readable, all that came on it, its answer, the next.
 *
 * Connections are open and blocking. Every one sends the frames of one cycle in their order, from its own position on,
 * `in_flight` of them ahead of the replies. A reply is so many text frames; what was received is handed back whole, and
 * is checked when the clock has stopped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM_BYTES = 1 << 16, SILENCE_MS = 10000 };

struct connection {
    uint8_t *data;
    size_t length, room, parsed;
    double *left; /* when each message left that is not answered yet, a ring */
    long oldest, frames; /* of the reply that is not whole */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int say(int fd, const uint8_t *data, size_t length) {
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        data += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* How many frames of replies have become whole; -EPROTO for a frame that is none. Pings and pongs count as nothing. */
static long whole(struct connection *c) {
    long count = 0;
    for (;;) {
        size_t have = c->length - c->parsed, head = 2, size;
        const uint8_t *frame = c->data + c->parsed;
        if (have < 2) return count;
        size = frame[1] & 127;
        if (size == 126) {
            head = 4;
            if (have < head) return count;
            size = (size_t)frame[2] << 8 | frame[3];
        } else if (size == 127) {
            head = 10;
            if (have < head) return count;
            size = 0;
            for (int at = 2; at < 10; at++) size = size << 8 | frame[at];
        }
        if (have < head + size) return count;
        int opcode = frame[0] & 15;
        if (opcode == 1 || opcode == 2) count++;
        else if (opcode != 9 && opcode != 10) return -EPROTO;
        c->parsed += head + size;
    }
}

/*
 * `ends[i]` is where the i-th frame ends; behind the cycle follow its first `in_flight` frames once more, so that what
 * is sent together lies together. A message is answered by `answers` frames; `waits` has room for `messages`. The
 * received bytes of connection i go to `received[i]`, `lengths[i]` of them, to be released with `prompt_release`. Gives
 * 0, or an errno, negative.
 */
int prompt_run(long connections, const int *fds, const uint8_t *frames, const size_t *ends, long cycle,
               long *positions, long messages, long in_flight, long answers, double *waits, uint8_t **received,
               size_t *lengths, uint64_t *sent_bytes) {
    struct connection *all = calloc((size_t)connections, sizeof *all);
    long sent = 0, answered = 0;
    int poll = epoll_create1(EPOLL_CLOEXEC), failed = 0;

    for (long i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)i};
        all[i].data = malloc(all[i].room = ROOM_BYTES);
        all[i].left = malloc(sizeof(double) * (size_t)in_flight);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event)) failed = -errno;
    }
    for (long i = 0; i < connections && !failed; i++) {
        long again = in_flight < messages - sent ? in_flight : messages - sent, at = positions[i];
        size_t from = at ? ends[at - 1] : 0;
        if (!again) break;
        double start = now();
        for (long k = 0; k < again; k++) all[i].left[k] = start;
        failed = say(fds[i], frames + from, ends[at + again - 1] - from);
        *sent_bytes += ends[at + again - 1] - from;
        positions[i] = (at + again) % cycle;
        sent += again;
    }
    while (answered < sent && !failed) {
        struct epoll_event event;
        int ready = epoll_wait(poll, &event, 1, SILENCE_MS);
        if (ready <= 0) {
            if (ready < 0 && errno == EINTR) continue;
            failed = ready ? -errno : -ETIMEDOUT;
            break;
        }
        long i = (long)event.data.u64, at = positions[i];
        struct connection *c = &all[i];
        if (c->room - c->length < ROOM_BYTES / 2) c->data = realloc(c->data, c->room *= 2);
        ssize_t got = recv(fds[i], c->data + c->length, ROOM_BYTES / 2, 0);
        if (got <= 0) {
            if (got < 0 && errno == EINTR) continue;
            failed = got ? -errno : -ECONNRESET;
            break;
        }
        c->length += (size_t)got;
        long came = whole(c), count = (c->frames + came) / answers;
        if (came < 0 || count > messages - answered) {
            failed = came < 0 ? (int)came : -EPROTO;
            break;
        }
        c->frames = (c->frames + came) % answers;
        double when = now();
        for (long k = 0; k < count; k++) waits[answered++] = when - c->left[(c->oldest + k) % in_flight];
        long again = count < messages - sent ? count : messages - sent;
        for (long k = 0; k < again; k++) c->left[(c->oldest + k) % in_flight] = when;
        if (count) c->oldest = (c->oldest + count) % in_flight;
        if (again) {
            size_t from = at ? ends[at - 1] : 0;
            failed = say(fds[i], frames + from, ends[at + again - 1] - from);
            *sent_bytes += ends[at + again - 1] - from;
            positions[i] = (at + again) % cycle;
            sent += again;
        }
    }
    for (long i = 0; i < connections; i++) {
        received[i] = all[i].data;
        lengths[i] = all[i].length;
        free(all[i].left);
    }
    free(all);
    close(poll);
    return failed;
}

void prompt_release(long connections, uint8_t **received) {
    for (long i = 0; i < connections; i++) free(received[i]);
}
