/* status.c: the thread's last failure. */
#include "core/status.h"
#include "core/interrupt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    int code;
    const char *current_op; /* operation being run */
    const char *op;         /* operation that failed */
    char message[1024];     /* indices behind marks, see STEER_INDEX */
    char shown[1024];
    char where[128];
} last = {.current_op = "", .op = ""};

const char *steer_enter(const char *op) {
    const char *outer = last.current_op;
    if (!*outer) last.current_op = op;
    return outer;
}

void steer_leave(const char **outer) { last.current_op = *outer; }

int steer_poll(void) {
    if (__builtin_expect(steer_interrupt_take(), 0)) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
    return STEER_OK;
}

int steer_fail(int code, const char *file, int line, const char *format, ...) {
    const char *src = strstr(file, "src/");
    const char *kernels = strstr(file, "kernels/");
    const char *shown = src ? src : kernels ? kernels : file;
    last.code = code;
    last.op = last.current_op;
    snprintf(last.where, sizeof last.where, "%s:%d", shown, line);
    va_list args;
    va_start(args, format);
    vsnprintf(last.message, sizeof last.message, format, args);
    va_end(args);
    return code;
}

int steer_fail_prefix(int code, const char *format, ...) {
    char text[sizeof last.message];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) return code;
    size_t used = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    /* A cut message is fine; looking at the result says so to the compiler. */
    if (snprintf(text + used, sizeof text - used, ": %s", last.message) < 0) return code;
    memcpy(last.message, text, sizeof text);
    return code;
}

int steer_fail_at(int code, int64_t index) {
    char rest[sizeof last.message];
    const size_t name = strcspn(last.message, ": ");
    strcpy(rest, last.message + name);
    if (snprintf(last.message + name, sizeof last.message - name, "[" STEER_INDEX64 "]%s", (long long)index,
                 rest) < 0)
        return code; /* cut, as above */
    return code;
}

int steer_error_code(void) { return last.code; }
const char *steer_error_op(void) { return last.op; }
const char *steer_error_message(void) { return steer_error_message_from(0); }

const char *steer_error_message_from(int32_t first) {
    const size_t size = sizeof last.shown;
    size_t used = 0;
    for (const char *from = last.message; *from && used + 1 < size;) {
        if (*from != STEER_INDEX[0]) {
            last.shown[used++] = *from++;
            continue;
        }
        char *end;
        const long long index = strtoll(++from, &end, 10);
        if (end == from) continue; /* cut behind the mark */
        const int n = snprintf(last.shown + used, size - used, "%lld", index + first);
        used = n < (int)(size - used) ? used + (size_t)n : size - 1;
        from = end;
    }
    last.shown[used] = 0;
    return last.shown;
}

const char *steer_error_where(void) { return last.where; }

const char *steer_status_name(int status) {
    static const char *const names[] = {"ok",
                                        "invalid_argument",
                                        "shape_mismatch",
                                        "dtype_mismatch",
                                        "device_mismatch",
                                        "out_of_memory",
                                        "not_found",
                                        "io",
                                        "format",
                                        "unsupported",
                                        "closed",
                                        "interrupted",
                                        "no_effect",
                                        "device"};
    int index = -status;
    return index >= 0 && index < (int)(sizeof names / sizeof *names) ? names[index] : "unknown";
}
