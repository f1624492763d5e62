// Takes processes, memory or processor time until somebody stops it, and says how far it came.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    setvbuf(stdout, 0, _IONBF, 0);
    if (!strcmp(verb, "tasks")) {
        int children = 0;
        for (; children < 5000; children++) {
            pid_t child = fork();
            if (child < 0) break;
            if (!child) { pause(); _exit(0); }
        }
        printf("processes %d %s\n", children + 1, strerrorname_np(errno));
    } else if (!strcmp(verb, "memory")) {
        for (int got = 0; got < 4096; got += 8) {
            char *part = malloc(8 << 20);
            if (!part) { printf("no memory after %d\n", got); return 1; }
            memset(part, 1, 8 << 20);
            printf("touched %d\n", got + 8);
        }
    } else if (!strcmp(verb, "cpu")) {
        double start = seconds(CLOCK_MONOTONIC);
        while (seconds(CLOCK_MONOTONIC) - start < 10) {}
        printf("share %.2f\n", seconds(CLOCK_PROCESS_CPUTIME_ID) / (seconds(CLOCK_MONOTONIC) - start));
    }
    return 0;
}
