/* fields.c: checked reading of JSON members. */
#include "text/fields.h"

#include <stdio.h>
#include <string.h>

steer_field steer_field_get(const steer_field *object, const char *key) {
    steer_field field = {.json = steer_json_get(object->json, key)};
    snprintf(field.where, sizeof field.where, "%.90s%s%.24s", object->where, *object->where ? "." : "", key);
    return field;
}

steer_field steer_field_at(const steer_field *array, const steer_json *element, size_t index) {
    steer_field field = {.json = element};
    snprintf(field.where, sizeof field.where, "%.90s[%zu]", array->where, index);
    return field;
}

int steer_field_wrong(const steer_field *field, const char *expected) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: is %s, expected %s", field->where, steer_json_what(field->json),
                      expected);
}

int steer_field_is_null(const steer_field *field) {
    return !field->json || field->json->type == STEER_JSON_NULL;
}

/* Whether a key is a word of `known`, words parted by single spaces. */
static int is_known(const steer_json *member, const char *known) {
    while (*known) {
        size_t size = strcspn(known, " ");
        if (size == member->key_size && memcmp(known, member->key, size) == 0) return 1;
        known += size + (known[size] == ' ');
    }
    return 0;
}

int steer_field_object(const steer_field *field, const char *known) {
    if (!field->json || field->json->type != STEER_JSON_OBJECT) return steer_field_wrong(field, "an object");
    for (const steer_json *member = field->json->first; member; member = member->next)
        if (!is_known(member, known))
            return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: unknown field \"%.*s\", the fields known here are %s",
                              field->where, (int)(member->key_size < 60 ? member->key_size : 60), member->key,
                              known);
    return STEER_OK;
}

int steer_field_array(const steer_field *field) {
    if (!field->json || field->json->type != STEER_JSON_ARRAY) return steer_field_wrong(field, "an array");
    return STEER_OK;
}

int steer_field_flag(int *out, const steer_field *object, const char *key, int otherwise) {
    steer_field field = steer_field_get(object, key);
    if (!steer_field_is_null(&field) && field.json->type != STEER_JSON_TRUE &&
        field.json->type != STEER_JSON_FALSE)
        return steer_field_wrong(&field, "true or false");
    *out = steer_field_is_null(&field) ? otherwise : field.json->type == STEER_JSON_TRUE;
    return STEER_OK;
}

int steer_field_text(const steer_json **out, const steer_field *object, const char *key) {
    steer_field field = steer_field_get(object, key);
    if (!field.json || field.json->type != STEER_JSON_STRING) return steer_field_wrong(&field, "a string");
    *out = field.json;
    return STEER_OK;
}

int steer_field_id(int32_t *out, const steer_field *field) {
    int64_t value;
    if (!steer_json_integer(field->json, &value) || value < 0 || value >= INT32_MAX)
        return STEER_FAIL(STEER_E_FORMAT, "%s: is %s, expected an id from 0 to %d", field->where,
                          field->json && field->json->type == STEER_JSON_NUMBER
                              ? "another number"
                              : steer_json_what(field->json),
                          INT32_MAX - 1);
    *out = (int32_t)value;
    return STEER_OK;
}
