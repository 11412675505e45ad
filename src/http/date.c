#include "http/date.h"

#include "base/clock.h"

static const char days[] = "SunMonTueWedThuFriSat";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

char *http_date(int64_t unix_seconds, char out[HTTP_DATE_SIZE])
{
    time_t seconds = (time_t)unix_seconds;
    struct tm utc;
    gmtime_r(&seconds, &utc);
    strftime(out, HTTP_DATE_SIZE, "ddd, %d mmm %Y %H:%M:%S GMT", &utc);
    memcpy(out, days + 3 * utc.tm_wday, 3); /* names by hand: strftime's follow the locale */
    memcpy(out + 8, months + 3 * utc.tm_mon, 3);
    return out;
}

char *http_date_now(char out[HTTP_DATE_SIZE])
{
    return http_date(clock_unix(), out);
}

bool http_date_parse(struct str text, int64_t *ret_unix)
{
    char copy[HTTP_DATE_SIZE], again[HTTP_DATE_SIZE];
    struct tm utc = {0};
    if (text.n != 29)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    const char *month = NULL;
    for (size_t i = 0; i + 3 < sizeof months && !month; i += 3)
        if (memcmp(copy + 8, months + i, 3) == 0)
            month = months + i;
    if (!month || sscanf(copy + 5, "%2d", &utc.tm_mday) != 1 ||
        sscanf(copy + 12, "%4d %2d:%2d:%2d", &utc.tm_year, &utc.tm_hour, &utc.tm_min, &utc.tm_sec) != 4)
        return false;
    utc.tm_mon = (int)(month - months) / 3;
    utc.tm_year -= 1900;
    int64_t value = timegm(&utc);
    if (strcmp(http_date(value, again), copy) != 0) /* wrong weekday, 31st of February, anything else odd */
        return false;
    *ret_unix = value;
    return true;
}
