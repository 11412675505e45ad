/* A file's bytes as data of the program: EMBED(name, "path") gives name_begin and name_end. By the assembler and not as
 * a C array, because a megabyte of initialisers takes a compiler seconds. */
#ifndef API_DOCS_EMBED_H
#define API_DOCS_EMBED_H

#define EMBED(name, path)                                                                                              \
    extern const char name##_begin[] __attribute__((visibility("hidden")));                                            \
    extern const char name##_end[] __attribute__((visibility("hidden")));                                              \
    __asm__(".pushsection .rodata, \"a\"\n"                                                                            \
            ".global " #name "_begin, " #name "_end\n"                                                                 \
            ".hidden " #name "_begin, " #name "_end\n"                                                                 \
            ".balign 16\n" #name "_begin:\n"                                                                           \
            ".incbin \"" path "\"\n" #name "_end:\n"                                                                   \
            ".byte 0\n"                                                                                                \
            ".popsection\n")

#define EMBEDDED(name) ((struct str){name##_begin, (size_t)(name##_end - name##_begin)})

#endif
