// Measures ways to servers, as a tool would see them: `ping` sends a short command and waits for its answer, so many times; `pour` sends
// so many bytes and waits for one that says that all have come. A way is `tcp ADDRESS PORT` or `line FILE`.
//
// client (ping ROUNDS WAY | pour BYTES WAY)...
//
// Prints nanoseconds: the median and the 99th percentile of a ping, the time of a pour.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// As long as a command of an instrument is.
enum { COMMAND = 16, WARM = 100, PIECE = 1 << 16 };

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void all(int fd, char *bytes, size_t count, int out) {
    while (count > 0) {
        ssize_t done = out ? write(fd, bytes, count) : read(fd, bytes, count);
        if (done <= 0) {
            perror(out ? "write" : "read");
            exit(3);
        }
        bytes += done;
        count -= (size_t) done;
    }
}

static int compare(const void *one, const void *other) {
    long long a = *(const long long *) one, b = *(const long long *) other;
    return (a > b) - (a < b);
}

static int opened(char **way) {
    if (!strcmp(way[0], "line")) {
        int fd = open(way[1], O_RDWR | O_NOCTTY);
        if (fd < 0) {
            perror(way[1]);
            exit(2);
        }
        return fd;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short) atoi(way[2]))};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, way[1], &to.sin_addr) != 1 || connect(fd, (struct sockaddr *) &to, sizeof to)) {
        perror("connect");
        exit(2);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void pour(int fd, long size) {
    char *bytes = calloc(1, PIECE);
    long long begun = now();
    for (long left = size; left > 0; left -= PIECE) all(fd, bytes, left < PIECE ? (size_t) left : PIECE, 1);
    all(fd, bytes, 1, 0);
    printf("%lld\n", now() - begun);
}

static void ping(int fd, long rounds) {
    char bytes[COMMAND] = "TPA";
    long long *times = calloc((size_t) rounds, sizeof *times);
    for (long round = -WARM; round < rounds; round++) {
        long long begun = now();
        all(fd, bytes, COMMAND, 1);
        all(fd, bytes, COMMAND, 0);
        if (round >= 0) times[round] = now() - begun;
    }
    qsort(times, (size_t) rounds, sizeof *times, compare);
    printf("%lld %lld\n", times[rounds / 2], times[rounds * 99 / 100]);
}

int main(int count, char **words) {
    for (char **word = words + 1; word + 3 < words + count;) {
        int is_line = !strcmp(word[2], "line");
        if (!is_line && word + 4 >= words + count) return 1;
        int fd = opened(word + 2);
        (strcmp(word[0], "ping") ? pour : ping)(fd, atol(word[1]));
        word += is_line ? 4 : 5;
    }
    return fflush(stdout) != 0;
}
