/* What can be small as a file and large in memory:
 *   any format   a size of 65 535 x 65 535 pixels; read from the header and bounded
 *   PNG          a deflate stream that goes on for gigabytes behind the last row; unpacked here once into a small
 * buffer that is thrown away, and counted JPEG         thousands of progressive scans, each of which passes over the
 * whole picture; counted GIF and BMP are decoded into what their size says and no more. The decoder checks the sizes
 * again (worker/vision.c), so that what is bounded is what it will take. */
#include "openai/image.h"

#include <zlib.h>

#include "base/limits.h"

/* ---- URLs ---- */

static bool starts_folded(struct str text, struct str prefix)
{
    return text.n >= prefix.n && str_ieq((struct str){text.p, prefix.n}, prefix);
}

static bool read_data_url(struct str rest, struct str *ret_data, struct err *err)
{
    const char *comma = memchr(rest.p, ',', rest.n);
    struct str kind = {rest.p, comma ? (size_t)(comma - rest.p) : 0};
    if (!comma || !str_ends(kind, STR(";base64")))
        return err_set(err, ERR_INVALID_PARAMETERS,
                       "must be a data URL in base64: \"data:image/png;base64,...\"; this one is not");
    if (!starts_folded(kind, STR("image/")))
        return err_set(err, ERR_INVALID_PARAMETERS, "must hold an image, but its media type is %.*s",
                       (int)(kind.n < 64 ? kind.n : 64), kind.p);
    *ret_data = (struct str){comma + 1, rest.n - kind.n - 1};
    if (ret_data->n == 0)
        return err_set(err, ERR_INVALID_PARAMETERS, "holds no data");
    if (ret_data->n > LIMIT_IMAGE_BYTES / 3 * 4 + 4)
        return err_set(err, ERR_INVALID_PARAMETERS, "has more than %u MiB", LIMIT_IMAGE_BYTES >> 20);
    return true;
}

bool image_url_read(struct str url, enum image_place *ret_place, struct str *ret_data, struct err *err)
{
    if (starts_folded(url, STR("data:"))) {
        *ret_place = IMAGE_DATA;
        return read_data_url((struct str){url.p + 5, url.n - 5}, ret_data, err);
    }
    *ret_place = IMAGE_REMOTE;
    if (!starts_folded(url, STR("http://")) && !starts_folded(url, STR("https://")))
        return err_set(err, ERR_INVALID_PARAMETERS, "must be a data URL or begin with http:// or https://");
    if (url.n > LIMIT_IMAGE_URL)
        return err_set(err, ERR_INVALID_PARAMETERS, "has more than %d bytes", LIMIT_IMAGE_URL);
    return true;
}

/* ---- files ---- */

static unsigned big16(const char *p)
{
    return (unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static unsigned big32(const char *p)
{
    return big16(p) << 16 | big16(p + 2);
}

static unsigned little16(const char *p)
{
    return (unsigned)(unsigned char)p[1] << 8 | (unsigned char)p[0];
}

static unsigned little32(const char *p)
{
    return little16(p + 2) << 16 | little16(p);
}

static bool broken(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID_PARAMETERS, "is a damaged image: %s", what);
}

static bool set_size(struct image_head *head, uint64_t width, uint64_t height, struct err *err)
{
    if (width == 0 || height == 0)
        return broken(err, "it has no pixels");
    if (width > LIMIT_IMAGE_SIDE || height > LIMIT_IMAGE_SIDE || width * height > LIMIT_IMAGE_PIXELS)
        return err_set(err, ERR_INVALID_PARAMETERS,
                       "is an image of %llu x %llu pixels; at most %d on a side and %u together are taken",
                       (unsigned long long)width, (unsigned long long)height, LIMIT_IMAGE_SIDE, LIMIT_IMAGE_PIXELS);
    head->width = (unsigned)width;
    head->height = (unsigned)height;
    return true;
}

/* Rows of 16-bit RGBA at most, one byte before each; interlaced, seven smaller pictures of together twice as many rows
 * at most. */
static uint64_t png_most(const struct image_head *head)
{
    return ((uint64_t)head->width * 8 + 1) * head->height + 2 * (uint64_t)head->height + 8 * (uint64_t)head->width;
}

/* Goes on unpacking with a chunk's bytes. false: broken, or more than *left comes out. */
static bool unpack(z_stream *z, struct str chunk, uint64_t *left, bool *ret_end)
{
    unsigned char out[16384];
    z->next_in = (unsigned char *)chunk.p;
    z->avail_in = (unsigned)chunk.n;
    while (z->avail_in > 0 && !*ret_end) {
        z->next_out = out;
        z->avail_out = sizeof out;
        int rc = inflate(z, Z_NO_FLUSH);
        uint64_t made = sizeof out - z->avail_out;
        if ((rc != Z_OK && rc != Z_STREAM_END) || made > *left)
            return false;
        *left -= made;
        *ret_end = rc == Z_STREAM_END;
    }
    return true;
}

/* The chunks behind IHDR: how much all IDAT unpack to. */
static bool check_png_data(struct str file, const struct image_head *head, struct err *err)
{
    z_stream z = {0};
    uint64_t left = png_most(head);
    bool end = false, good = inflateInit(&z) == Z_OK;
    size_t at = 8;
    while (good && !end && file.n - at >= 12) {
        size_t length = big32(file.p + at);
        if (length > file.n - at - 12)
            break;
        if (memcmp(file.p + at + 4, "IDAT", 4) == 0)
            good = unpack(&z, (struct str){file.p + at + 8, length}, &left, &end);
        at += length + 12;
    }
    inflateEnd(&z);
    return (good && end) || broken(err, "its pixels cannot be unpacked, or are more than its size says");
}

static bool read_png(struct str file, struct image_head *head, struct err *err)
{
    if (file.n < 33 || memcmp(file.p + 8, "\0\0\0\rIHDR", 8) != 0)
        return broken(err, "a PNG begins with its IHDR");
    return set_size(head, big32(file.p + 16), big32(file.p + 20), err) && check_png_data(file, head, err);
}

/* The next marker at or behind *at; what lies before it is passed over, as decoders do. 0: there is none. */
static unsigned next_marker(struct str file, size_t *at)
{
    while (*at + 1 < file.n) {
        unsigned code = (unsigned char)file.p[*at + 1];
        bool found = (unsigned char)file.p[*at] == 0xff && code != 0 && code != 0xff;
        *at += found ? 2 : 1;
        if (found)
            return code;
    }
    return 0;
}

static bool read_jpeg(struct str file, struct image_head *head, struct err *err)
{
    enum { SOF0 = 0xc0, SOF2 = 0xc2, RST0 = 0xd0, SOI = 0xd8, EOI = 0xd9, SOS = 0xda, TEM = 0x01 };
    unsigned scans = 0, marker;
    bool sized = false;
    size_t at = 2;
    while ((marker = next_marker(file, &at)) != 0 && marker != EOI) {
        if (marker == TEM || (marker >= RST0 && marker <= SOI))
            continue;
        size_t length = file.n - at >= 2 ? big16(file.p + at) : 0;
        if (length < 2 || length > file.n - at)
            break;
        if (marker >= SOF0 && marker <= SOF2) {
            if (sized || length < 8)
                return broken(err, "a JPEG has one frame");
            sized = true;
            if (!set_size(head, big16(file.p + at + 5), big16(file.p + at + 3), err))
                return false;
        }
        scans += marker == SOS;
        if (scans > LIMIT_JPEG_SCANS)
            return err_set(err, ERR_INVALID_PARAMETERS, "is a JPEG of more than %d scans", LIMIT_JPEG_SCANS);
        at += length;
    }
    return (sized && scans > 0) || broken(err, "the JPEG has no frame that can be read");
}

static bool read_gif(struct str file, struct image_head *head, struct err *err)
{
    if (file.n < 14)
        return broken(err, "the GIF is too short");
    return set_size(head, little16(file.p + 6), little16(file.p + 8), err);
}

static bool read_bmp(struct str file, struct image_head *head, struct err *err)
{
    if (file.n < 30)
        return broken(err, "the BMP is too short");
    if (little32(file.p + 14) == 12)
        return set_size(head, little16(file.p + 18), little16(file.p + 20), err);
    int32_t height = (int32_t)little32(file.p + 22); /* negative: from top to bottom */
    return set_size(head, little32(file.p + 18), height < 0 ? 0 - (uint64_t)(int64_t)height : (uint64_t)height, err);
}

static bool is_webp(struct str file)
{
    return file.n >= 12 && memcmp(file.p, "RIFF", 4) == 0 && memcmp(file.p + 8, "WEBP", 4) == 0;
}

bool image_head_read(struct str file, struct image_head *ret_head, struct err *err)
{
    static const struct {
        struct str start;
        enum image_format format;
        bool (*read)(struct str file, struct image_head *head, struct err *err);
    } formats[] = {{STR("\x89PNG\r\n\x1a\n"), IMAGE_PNG, read_png},
                   {STR("\xff\xd8\xff"), IMAGE_JPEG, read_jpeg},
                   {STR("GIF8"), IMAGE_GIF, read_gif},
                   {STR("BM"), IMAGE_BMP, read_bmp}};
    if (file.n > LIMIT_IMAGE_BYTES)
        return err_set(err, ERR_INVALID_PARAMETERS, "has more than %u MiB", LIMIT_IMAGE_BYTES >> 20);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (!str_starts(file, formats[i].start))
            continue;
        ret_head->format = formats[i].format;
        return formats[i].read(file, ret_head, err);
    }
    return err_set(err, ERR_INVALID_PARAMETERS, "must be a PNG, JPEG, GIF or BMP image; %s",
                   is_webp(file) ? "WebP cannot be read" : "this is none of them");
}
