/* status.h: how a failure is recorded on its way out: a code returned, a message kept per thread. */
#ifndef STEER_CORE_STATUS_H
#define STEER_CORE_STATUS_H

#include "steer.h"

/* Records a failure of the current public operation and returns `code`:
 *     return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dim: %d is out of range for %d dimensions", dim, ndim); */
#define STEER_FAIL(code, ...) (steer_fail((code), __FILE__, __LINE__, __VA_ARGS__), (code))
/* An index in a message's format, of an int or a long long: messages count it from 0, or from 1 for callers who do. */
#define STEER_INDEX   "\001%d"
#define STEER_INDEX64 "\001%lld"
#define STEER_TRY(call)                                                                                      \
    do {                                                                                                     \
        int steer_try_status = (call);                                                                       \
        if (steer_try_status != STEER_OK) return steer_try_status;                                           \
    } while (0)

/* A pointer argument that must be there. */
#define STEER_REQUIRE(argument)                                                                              \
    do {                                                                                                     \
        if (!(argument)) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, #argument ": is NULL");                 \
    } while (0)
/* A descriptor that must be there and of this version. */
#define STEER_REQUIRE_STRUCT(argument)                                                                       \
    do {                                                                                                     \
        STEER_REQUIRE(argument);                                                                             \
        if ((argument)->struct_size != sizeof *(argument))                                                   \
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, #argument ": struct_size is %u, expected %zu",       \
                              (argument)->struct_size, sizeof *(argument));                                  \
    } while (0)

int steer_fail(int code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

/* First line of every exported function that can fail: names the operation for messages ("tensor_create") until it
 * returns, unless it was called by another one, and polls the interrupt flag. */
#define STEER_ENTER(name)                                                                                    \
    const char *steer_outer __attribute__((cleanup(steer_leave))) = steer_enter(name);                       \
    STEER_TRY(steer_poll())
const char *steer_enter(const char *op);
void steer_leave(const char **outer);
int steer_poll(void);

/* Puts "<prefix>: " before the recorded message and returns `code`: a caller adds what only it knows. */
int steer_fail_prefix(int code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* Says which entry of a list the argument is that the recorded message begins with, and returns `code`: "hidden: is on cpu"
 * becomes "hidden[2]: is on cpu". */
int steer_fail_at(int code, int64_t index) __attribute__((cold));

#endif
