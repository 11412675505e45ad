/* Files of batches: rows in the store, contents in batch.files_dir under their ids. Loop thread only, but for
 * files_sync_folder. */
#ifndef API_BATCH_FILES_H
#define API_BATCH_FILES_H

#include "api/app.h"

#define FILES_PART ".part" /* behind the name of a file that is not complete */

http_handler file_upload, file_list, file_look, file_delete, file_content;

/* Makes the folder and removes what uploads left unfinished; blocking, at the start. */
bool files_prepare(const struct app *app, struct err *err);

/* Unlinks the content of a file whose row is gone, or never came. */
void files_remove(struct app *app, struct str id);

/* Forgets files and ended batches whose time is over, now and then. */
struct files_sweep;
struct files_sweep *files_sweep_start(struct app *app);
void files_sweep_stop(struct files_sweep *sweep); /* before store_close; NULL is fine */

int64_t files_expiry(const struct app *app, int64_t now); /* unix seconds */
bool files_sync_folder(const char *folder);               /* any thread; blocking; false: errno says why */

#endif
