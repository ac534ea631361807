/* bank.c: interning, upload and least-recently-used eviction of vectors. */
#include "steering/bank.h"

static void unused_append(steer_bank *bank, steer_resident *resident) {
    resident->older = bank->newest;
    resident->newer = NULL;
    *(bank->newest ? &bank->newest->newer : &bank->oldest) = resident;
    bank->newest = resident;
}

static void unused_remove(steer_bank *bank, steer_resident *resident) {
    *(resident->older ? &resident->older->newer : &bank->oldest) = resident->newer;
    *(resident->newer ? &resident->newer->older : &bank->newest) = resident->older;
}

static void evict(steer_bank *bank, steer_resident *resident) {
    unused_remove(bank, resident);
    steer_table_remove(&bank->table, &resident->node);
    steer_device_deallocate(bank->device, resident->data, resident->bytes);
    bank->bytes -= (int64_t)resident->bytes;
    steer_vector_release(resident->vector);
    free(resident);
}

static steer_resident *find(const steer_bank *bank, const steer_vector *vector) {
    steer_node *node = steer_table_find(&bank->table, vector->hash.lo);
    for (; node; node = steer_table_next(node->next, vector->hash.lo)) {
        steer_resident *resident = STEER_OWNER(node, steer_resident);
        if (steer_vector_equal(resident->vector, vector)) return resident;
    }
    return NULL;
}

static int make_room(steer_bank *bank, size_t bytes) {
    while (bank->bytes + (int64_t)bytes > bank->budget && bank->oldest) {
        evict(bank, bank->oldest);
        bank->evictions++;
    }
    if (bank->bytes + (int64_t)bytes > bank->budget)
        return STEER_FAIL(
            STEER_E_OUT_OF_MEMORY,
            "vector_bytes: live specs use %lld of the engine's %lld bytes, %zu more were asked for",
            (long long)bank->bytes, (long long)bank->budget, bytes);
    return STEER_OK;
}

/* Brings a new vector in. */
static int load(steer_resident *resident, steer_bank *bank, steer_vector *vector) {
    resident->bytes = (size_t)steer_vector_room(vector->length) * sizeof *vector->m;
    STEER_TRY(make_room(bank, resident->bytes));
    if (!steer_table_reserve(&bank->table))
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "vector bank: no host memory for its table");
    STEER_TRY(steer_device_allocate(bank->device, &resident->data, resident->bytes, "steering vector"));
    int status =
        bank->device->backend->upload(bank->device->state, resident->data, vector->m, resident->bytes);
    if (status != STEER_OK) steer_device_deallocate(bank->device, resident->data, resident->bytes);
    return status;
}

int steer_bank_acquire(steer_resident **out, steer_bank *bank, steer_vector *vector) {
    steer_resident *resident = find(bank, vector);
    if (resident) {
        if (resident->users++ == 0) unused_remove(bank, resident);
        bank->hits++;
        *out = resident;
        return STEER_OK;
    }
    resident = calloc(1, sizeof *resident);
    if (!resident) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "vector bank: no host memory");
    int status = load(resident, bank, vector);
    if (status != STEER_OK) {
        free(resident);
        return status;
    }
    resident->vector = steer_vector_retain(vector);
    resident->users = 1;
    steer_table_add(&bank->table, &resident->node, vector->hash.lo);
    bank->bytes += (int64_t)resident->bytes;
    bank->misses++;
    *out = resident;
    return STEER_OK;
}

void steer_bank_release(steer_bank *bank, steer_resident *resident) {
    if (resident && --resident->users == 0) unused_append(bank, resident);
}

void steer_bank_free(steer_bank *bank) {
    while (bank->oldest) evict(bank, bank->oldest);
    steer_table_free(&bank->table);
}
