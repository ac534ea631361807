/* refs.h: reference counts. */
#ifndef STEER_CORE_REFS_H
#define STEER_CORE_REFS_H

#include <stdatomic.h>
#include <stdint.h>

typedef atomic_int_fast64_t steer_refs;

static inline void steer_refs_init(steer_refs *refs) { atomic_init(refs, 1); }
static inline void steer_refs_add(steer_refs *refs) {
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}
/* 1 when the last reference went. */
static inline int steer_refs_drop(steer_refs *refs) {
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

#endif
