/* Images and their URLs: what is accepted is within the limits, whatever the bytes; data URLs decode into their room.
 */
#include <assert.h>
#include <stdint.h>

#include "base/base64.h"
#include "base/mem.h"
#include "openai/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_file(struct str file)
{
    struct image_head head;
    struct err err = ERR_INIT;
    if (!image_head_read(file, &head, &err)) {
        assert(err.code == ERR_INVALID_PARAMETERS && *err.message);
        return;
    }
    assert(head.width > 0 && head.width <= LIMIT_IMAGE_SIDE);
    assert(head.height > 0 && head.height <= LIMIT_IMAGE_SIDE);
    assert((uint64_t)head.width * head.height <= LIMIT_IMAGE_PIXELS);
}

static void check_url(struct str url)
{
    enum image_place place;
    struct str base64;
    struct err err = ERR_INIT;
    size_t n;
    if (!image_url_read(url, &place, &base64, &err) || place == IMAGE_REMOTE)
        return;
    assert(base64.p >= url.p && base64.p + base64.n == url.p + url.n);
    unsigned char *out = mem_alloc(base64_room(base64.n));
    if (base64_decode(base64, out, &n)) {
        assert(n <= base64_room(base64.n));
        check_file((struct str){(const char *)out, n});
    }
    mem_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    check_file(input);
    check_url(input);
    return 0;
}
