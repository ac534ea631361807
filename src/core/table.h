/* table.h: a chained hash table of nodes that live inside their owners. */
#ifndef STEER_CORE_TABLE_H
#define STEER_CORE_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct steer_node {
    struct steer_node *next;
    uint64_t key;
} steer_node;

typedef struct steer_table {
    steer_node **buckets;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} steer_table;

/* The object that holds a node as its member `node`. */
#define STEER_OWNER(pointer, type) ((type *)(void *)((char *)(pointer)-offsetof(type, node)))

/* First node with the key, then the next ones after `node`. */
static inline steer_node *steer_table_next(steer_node *node, uint64_t key) {
    while (node && node->key != key) node = node->next;
    return node;
}

static inline steer_node *steer_table_find(const steer_table *table, uint64_t key) {
    return table->capacity ? steer_table_next(table->buckets[key & (table->capacity - 1)], key) : NULL;
}

/* Makes room for one more node; 0 when memory is out. */
static inline int steer_table_reserve(steer_table *table) {
    if (table->count < table->capacity) return 1;
    size_t capacity = table->capacity ? table->capacity * 2 : 64;
    steer_node **buckets = calloc(capacity, sizeof *buckets);
    if (!buckets) return 0;
    for (size_t i = 0; i < table->capacity; i++) {
        for (steer_node *node = table->buckets[i], *next; node; node = next) {
            next = node->next;
            steer_node **bucket = &buckets[node->key & (capacity - 1)];
            node->next = *bucket;
            *bucket = node;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->capacity = capacity;
    return 1;
}

/* Adds a node after steer_table_reserve succeeded. */
static inline void steer_table_add(steer_table *table, steer_node *node, uint64_t key) {
    steer_node **bucket = &table->buckets[key & (table->capacity - 1)];
    node->key = key;
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

static inline void steer_table_remove(steer_table *table, steer_node *node) {
    steer_node **link = &table->buckets[node->key & (table->capacity - 1)];
    while (*link != node) link = &(*link)->next;
    *link = node->next;
    table->count--;
}

static inline void steer_table_free(steer_table *table) {
    free(table->buckets);
    *table = (steer_table){0};
}

#endif
