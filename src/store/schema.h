/* The files schema/NNN.sql, embedded by the build (cmake/embed_schema.cmake). */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

extern const char *const store_schemas[]; /* step i leads to version i + 1 */
extern const int store_schema_count;

#endif
