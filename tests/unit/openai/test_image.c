/* What an image's URL is, and what its file promises: exact sizes, and every way in which a small file is a large
 * picture. */
#include "openai/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/limits.h"
#include "unit/unit.h"

static unsigned char file[1 << 20];
static size_t length;

static void begin(void)
{
    length = 0;
}

static void put(const void *bytes, size_t n)
{
    memcpy(file + length, bytes, n);
    length += n;
}

static void put_big(unsigned number, unsigned bytes)
{
    while (bytes-- > 0)
        file[length++] = (unsigned char)(number >> 8 * bytes);
}

static void put_chunk(const char *type, const void *bytes, unsigned n)
{
    put_big(n, 4);
    put(type, 4);
    put(bytes, n);
    put_big(0, 4); /* decoders that matter here do not look at the sum */
}

/* A PNG of this size whose data unpacks to `unpacked` zeros. */
static void make_png(unsigned width, unsigned height, size_t unpacked)
{
    unsigned char head[13] = {0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        head[i] = (unsigned char)(width >> (24 - 8 * i));
        head[4 + i] = (unsigned char)(height >> (24 - 8 * i));
    }
    uLongf packed = compressBound(unpacked);
    unsigned char *zeros = calloc(1, unpacked + 1), *data = malloc(packed);
    assert_int_equal(compress(data, &packed, zeros, unpacked), Z_OK);
    begin();
    put("\x89PNG\r\n\x1a\n", 8);
    put_chunk("IHDR", head, 13);
    put_chunk("tEXt", "a\0b", 3);
    put_chunk("IDAT", data, (unsigned)packed / 2); /* in two */
    put_chunk("IDAT", data + packed / 2, (unsigned)(packed - packed / 2));
    put_chunk("IEND", "", 0);
    free(zeros);
    free(data);
}

static void make_jpeg(unsigned width, unsigned height, unsigned scans)
{
    begin();
    put("\xff\xd8\xff\xe0", 4);
    put_big(4, 2);
    put("\xff\xda", 2); /* what looks like a scan inside a segment is none */
    put("\x00\xff\xc2", 3);
    put_big(11, 2);
    put_big(8, 1);
    put_big(height, 2);
    put_big(width, 2);
    put("\1\1\x11\0", 4);
    for (unsigned i = 0; i < scans; i++) {
        put("\xff\xda", 2);
        put_big(8, 2);
        put("\1\1\0\0\x3f\0", 6);
        put("data\xff\x00more\xff\xd0", 12);
    }
    put("\xff\xd9", 2);
}

static bool read_head(struct image_head *head, struct err *err)
{
    return image_head_read((struct str){(const char *)file, length}, head, err);
}

static void expect(enum image_format format, unsigned width, unsigned height)
{
    struct image_head head;
    struct err err = ERR_INIT;
    if (!read_head(&head, &err))
        fail_msg("%s", err.message);
    assert_int_equal(head.format, format);
    assert_int_equal(head.width, width);
    assert_int_equal(head.height, height);
}

static void refuse(const char *why)
{
    struct image_head head;
    struct err err = ERR_INIT;
    assert_false(read_head(&head, &err));
    assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
    if (!strstr(err.message, why))
        fail_msg("says: %s, not: %s", err.message, why);
}

static void test_png(void **state)
{
    (void)state;
    make_png(7, 3, (7 * 3 + 1) * 3);
    expect(IMAGE_PNG, 7, 3);
    file[12] = 'i';
    refuse("begins with its IHDR");
    make_png(7, 3, 66);
    length -= 30; /* the end of the data is missing */
    refuse("cannot be unpacked");
    make_png(0, 3, 66);
    refuse("no pixels");
    make_png(LIMIT_IMAGE_SIDE + 1, 1, 100);
    refuse("16385 x 1 pixels");
    make_png(16384, 16384, 100);
    refuse("16384 x 16384 pixels");
    make_png(7, 3, 5000000); /* a small size, and much behind it */
    refuse("more than its size says");
}

static void test_jpeg(void **state)
{
    (void)state;
    make_jpeg(640, 480, 3);
    expect(IMAGE_JPEG, 640, 480);
    make_jpeg(640, 480, LIMIT_JPEG_SCANS);
    expect(IMAGE_JPEG, 640, 480);
    make_jpeg(640, 480, LIMIT_JPEG_SCANS + 1);
    refuse("more than 64 scans");
    make_jpeg(640, 480, 0);
    refuse("no frame");
    make_jpeg(65535, 65535, 1);
    refuse("65535 x 65535 pixels");
    make_jpeg(640, 480, 1);
    file[4] = 0x7f; /* a segment longer than the file */
    refuse("no frame");
}

static void test_gif_and_bmp(void **state)
{
    (void)state;
    begin();
    put("GIF89a\x05\0\x04\0\0\0\0;", 14);
    expect(IMAGE_GIF, 5, 4);
    begin();
    put("BM????????????\x28\0\0\0\x06\0\0\0\xfe\xff\xff\xff\1\0\x18\0", 30);
    expect(IMAGE_BMP, 6, 2); /* from top to bottom */
    memcpy(file + 22, "\0\0\0\x80", 4);
    refuse("pixels");
    length = 20;
    refuse("too short");
}

static void test_others(void **state)
{
    (void)state;
    begin();
    put("RIFF????WEBPVP8 ", 16);
    refuse("WebP cannot be read");
    begin();
    put("%PDF-1.4", 8);
    refuse("must be a PNG, JPEG, GIF or BMP");
    begin();
    refuse("must be a PNG, JPEG, GIF or BMP");
}

static void test_urls(void **state)
{
    static const struct {
        const char *url, *data, *why; /* data NULL: refused; "" with why NULL: remote */
    } rows[] = {
        {"data:image/png;base64,QQ==", "QQ==", NULL},
        {"DATA:Image/PNG;charset=x;base64,QQ", "QQ", NULL},
        {"https://h/x.png", "", NULL},
        {"HTTP://h", "", NULL},
        {"data:image/png;base64,", NULL, "holds no data"},
        {"data:image/png,QQ==", NULL, "must be a data URL in base64"},
        {"data:image/png;base64", NULL, "must be a data URL in base64"},
        {"data:text/plain;base64,QQ==", NULL, "its media type is text/plain"},
        {"data:;base64,QQ==", NULL, "its media type is ;base64"},
        {"file:///etc/passwd", NULL, "must be a data URL or begin with"},
        {"ftp://h/x", NULL, "must be a data URL or begin with"},
        {"", NULL, "must be a data URL or begin with"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum image_place place;
        struct str data = STR_NONE;
        struct err err = ERR_INIT;
        bool good = image_url_read(str_from(rows[i].url), &place, &data, &err);
        if (good != (rows[i].data != NULL) || (!good && !strstr(err.message, rows[i].why)))
            fail_msg("%s: %s", rows[i].url, good ? "was accepted" : err.message);
        if (!good)
            continue;
        assert_int_equal(place, *rows[i].data ? IMAGE_DATA : IMAGE_REMOTE);
        if (*rows[i].data)
            assert_true(str_eq(data, str_from(rows[i].data)));
    }
}

static void test_too_much(void **state)
{
    enum image_place place;
    struct str data;
    struct err err = ERR_INIT;
    size_t n = LIMIT_IMAGE_BYTES / 3 * 4 + 100;
    char *url = malloc(n);
    (void)state;
    memset(url, 'A', n);
    memcpy(url, "data:image/png;base64,", 22);
    assert_false(image_url_read((struct str){url, n}, &place, &data, &err));
    assert_non_null(strstr(err.message, "more than 20 MiB"));
    memcpy(url, "http://h/", 9);
    assert_false(image_url_read((struct str){url, LIMIT_IMAGE_URL + 1}, &place, &data, &err));
    assert_non_null(strstr(err.message, "more than 8192 bytes"));
    free(url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_png),         cmocka_unit_test(test_jpeg),
                                       cmocka_unit_test(test_gif_and_bmp), cmocka_unit_test(test_others),
                                       cmocka_unit_test(test_urls),        cmocka_unit_test(test_too_much)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
