/* fields.h: reads members of a tokenizer's JSON objects; what it does not know is an error that names it. */
#ifndef STEER_TEXT_FIELDS_H
#define STEER_TEXT_FIELDS_H

#include "core/json.h"
#include "core/status.h"

/* A value and where it stands ("pre_tokenizer.pretokenizers[1]"), for messages. */
typedef struct steer_field {
    const steer_json *json;
    char where[120];
} steer_field;

/* The member `key`; its json is NULL if there is none. */
steer_field steer_field_get(const steer_field *object, const char *key);
/* An element of an array. */
steer_field steer_field_at(const steer_field *array, const steer_json *element, size_t index);

/* FORMAT unless it is an object whose keys are all among `known` ("type pattern content"). */
int steer_field_object(const steer_field *field, const char *known);
/* FORMAT unless it is an array. */
int steer_field_array(const steer_field *field);

/* Members of an object. Missing or null: the default, or FORMAT for text without one. */
int steer_field_flag(int *out, const steer_field *object, const char *key, int otherwise);
int steer_field_text(const steer_json **out, const steer_field *object, const char *key);
/* An id: an integer from 0 to 2^31 - 2. */
int steer_field_id(int32_t *out, const steer_field *field);

int steer_field_is_null(const steer_field *field);
/* A value that is not what it should be: "where: is a number, expected a string". */
int steer_field_wrong(const steer_field *field, const char *expected);

#endif
