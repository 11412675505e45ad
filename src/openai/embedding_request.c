#include "openai/embedding_request.h"

static bool check_inputs(const struct openai_embedding *r, struct err *err)
{
    for (size_t i = 0; i < r->input_count; i++) {
        if (r->inputs[i].text.n > 0 || r->inputs[i].token_count > 0)
            continue;
        char path[LIMIT_ERR_PARAM] = "input";
        if (r->input_count > 1)
            json_path_index(path, sizeof path, "input", i);
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must not be empty", path);
    }
    return true;
}

bool openai_embedding_read(struct str body, struct arena *arena, struct openai_embedding *ret_request, struct err *err)
{
    struct {
        struct openai_embedding r;
        struct str format;
    } in = {.format = STR("float")};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), format, "encoding_format", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), r.dimensions, "dimensions", JSON_KIND_INT, 1, INT32_MAX),
    };
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_model_read(document, &in.r.model, err) ||
        !json_fields(document, fields, sizeof fields / sizeof *fields, &in, "", err))
        return false;
    in.r.base64 = str_eq(in.format, STR("base64"));
    if (!in.r.base64 && !str_eq(in.format, STR("float")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "encoding_format",
                             "'encoding_format' must be 'float' or 'base64'");
    if (!openai_inputs_read(document, "input", LIMIT_EMBED_INPUTS, arena, &in.r.inputs, &in.r.input_count, err) ||
        !check_inputs(&in.r, err))
        return false;
    *ret_request = in.r;
    return true;
}
