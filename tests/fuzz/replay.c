/* Runs a fuzz target over the files of a corpus folder, so that every input that ever mattered is replayed by the
 * ordinary tests (and under ASan and UBSan by `make asan`). An empty or missing corpus is a failure. */
#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    static uint8_t data[4 << 20];
    size_t n = fread(data, 1, sizeof data, file);
    fclose(file);
    uint8_t *exact = malloc(n ? n : 1); /* its own block, so that ASan sees the end */
    if (!exact)
        return -1;
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "%s: cannot be opened\n", argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(dir));) {
            char path[4096];
            struct stat info;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (stat(path, &info) != 0 || !S_ISREG(info.st_mode))
                continue;
            if (replay_file(path) != 0)
                return 1;
            count++;
        }
        closedir(dir);
    }
    printf("%d inputs replayed\n", count);
    return count ? 0 : 1;
}
