/* Character classes of HTTP, without locale. */
#ifndef HTTP_CHARS_H
#define HTTP_CHARS_H

#include <stdbool.h>
#include <string.h>

static inline bool http_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool http_is_alnum(char c)
{
    return http_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool http_is_tchar(char c) /* RFC 9110 5.6.2 */
{
    return http_is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static inline int http_hex_value(char c) /* -1: no hexadecimal digit */
{
    if (http_is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

#endif
