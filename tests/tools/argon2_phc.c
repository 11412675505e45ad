/* argon2_phc KEY: its Argon2id hash as llamactl stores it (64 MiB, one pass, four lanes), for the tests of the import.
 */
#include <argon2.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char phc[256];
    if (argc != 2 || argon2id_hash_encoded(1, 65536, 4, argv[1], strlen(argv[1]), "salt of a test..", 16, 32, phc,
                                           sizeof phc) != ARGON2_OK)
        return 1;
    puts(phc);
    return 0;
}
