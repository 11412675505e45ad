/* gcc 12 declares only 8 of the 64 bytes that _tile_loadconfig reads, so the stores that fill the tile
 * configuration are optimised away and every quantised model dies on a CPU with AMX. Forced into llama.cpp's
 * C++ sources by scripts/deps.sh: the macro tells the compiler what the instruction really reads. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%0" ::"m"(*(const char(*)[64])(config)))
#endif
