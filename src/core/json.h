/* json.h: reads a JSON text into a tree that lies in one arena and is freed as a whole. */
#ifndef STEER_CORE_JSON_H
#define STEER_CORE_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef enum steer_json_type {
    STEER_JSON_NULL = 0,
    STEER_JSON_FALSE,
    STEER_JSON_TRUE,
    STEER_JSON_NUMBER,
    STEER_JSON_STRING,
    STEER_JSON_ARRAY,
    STEER_JSON_OBJECT
} steer_json_type;

/* A value, and its place among its parent's. Text is UTF-8, not ended by 0; it may hold 0 bytes. */
typedef struct steer_json {
    steer_json_type type;
    uint32_t count;          /* elements of an array, members of an object */
    struct steer_json *next; /* in the parent's list, in the order of the text */
    const char *key;         /* members of objects */
    size_t key_size;
    union {
        double number;            /* NUMBER; integers up to 2^53 are exact */
        struct steer_json *first; /* ARRAY, OBJECT */
        const char *text;         /* STRING */
    };
    size_t size;       /* STRING: bytes; NUMBER: bytes of its spelling */
    const char *spell; /* NUMBER: how it is written, in the text that was read */
} steer_json;

typedef struct steer_json_tree {
    steer_json *root;
    struct steer_json_chunk *chunks;
} steer_json_tree;

enum { STEER_JSON_DEPTH = 256 }; /* deepest nesting that is read */

/* Reads the whole of `text`, which must outlive the tree. FORMAT says the line, OUT_OF_MEMORY. Of the extensions of Python's writer it
 * takes NaN, Infinity and -Infinity. A key that an object has twice is FORMAT. `name` (a file, for messages). */
int steer_json_parse(steer_json_tree *out, const char *text, size_t size, const char *name);
void steer_json_free(steer_json_tree *tree);

/* The member with a key, NULL if there is none or `object` is none (or NULL). */
const steer_json *steer_json_get(const steer_json *object, const char *key);
/* 1 if it is a STRING that equals `text`. */
int steer_json_is_text(const steer_json *value, const char *text);
/* 1 if it is a NUMBER without a fraction within int64's exact range; *out is it. */
int steer_json_integer(const steer_json *value, int64_t *out);
/* "a number", "an object", ... for messages; "missing" for NULL. */
const char *steer_json_what(const steer_json *value);

#endif
