/* shortened.c: an access past the new end of a mapped file raises SIGBUS, which ends the process as it would without this
 * handler, but not without a word. */
#include "core/shortened.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { WATCHED = 256 }; /* further maps go without a message */

/* Slots instead of a list under a lock: the handler, and a child of a fork, find them as they are. */
static _Atomic(const steer_map *) watched[WATCHED];

static const steer_map *map_at(const uint8_t *address) {
    for (int i = 0; i < WATCHED; i++) {
        const steer_map *map = atomic_load(&watched[i]);
        if (map && address >= map->data && address - map->data < map->size) return map;
    }
    return NULL;
}

static void say(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    const steer_map *map = info->si_code > 0 ? map_at(info->si_addr) : NULL; /* else somebody sent it */
    if (map) {
        say("steer: ");
        say(map->path);
        say(": the file was shortened, or its disk failed, while it was in use; the process ends\n");
    }
    signal(number, SIG_DFL);
    raise(number);
}

void steer_shortened_watch(steer_map *map) {
    struct sigaction action;
    if (sigaction(SIGBUS, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
        action.sa_handler == SIG_DFL) {
        memset(&action, 0, sizeof action);
        sigemptyset(&action.sa_mask);
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGBUS, &action, NULL);
    }
    for (int i = 0; i < WATCHED; i++) {
        const steer_map *none = NULL;
        if (atomic_compare_exchange_strong(&watched[i], &none, map)) return;
    }
}

void steer_shortened_forget(const steer_map *map) {
    for (int i = 0; i < WATCHED; i++) {
        const steer_map *found = map;
        if (atomic_compare_exchange_strong(&watched[i], &found, NULL)) return;
    }
}
