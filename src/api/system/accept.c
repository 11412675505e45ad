#include "api/system/accept.h"

#include <stdio.h>
#include <stdlib.h>

/* The weight among a media range's parameters; 1 when there is none, 0 for one that makes no sense. */
static double weight_of(struct str parameters)
{
    while (parameters.p) {
        struct str value = str_trim(str_cut(&parameters, ';')), name = str_trim(str_cut(&value, '='));
        char text[8];
        if (!str_ieq(name, STR("q")))
            continue;
        snprintf(text, sizeof text, STR_FMT, STR_ARG(value));
        double weight = value.p ? strtod(text, NULL) : 0;
        return weight >= 0 && weight <= 1 ? weight : 0;
    }
    return 1;
}

enum metrics_format metrics_format_of(struct str accept)
{
    double open = 0, plain = 0;
    while (accept.p) {
        struct str parameters = str_cut(&accept, ','), type = str_trim(str_cut(&parameters, ';'));
        double weight = weight_of(parameters);
        if (str_ieq(type, STR("application/openmetrics-text")))
            open = weight > open ? weight : open;
        else if (str_ieq(type, STR("text/plain")))
            plain = weight > plain ? weight : plain;
    }
    return open > 0 && open >= plain ? METRICS_OPENMETRICS : METRICS_TEXT;
}
