/* A line of llama.cpp's or libmtmd's log as they hand it out, without the blanks and the line's end behind it. */
#ifndef WORKER_LLAMA_LINE_H
#define WORKER_LLAMA_LINE_H

#include "base/str.h"

static inline struct str llama_line(const char *text)
{
    struct str line = str_from(text);
    while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == ' '))
        line.n--;
    return line;
}

#endif
