/** Publishing by hand, and sending a message again after a change. */

import { path, Problem } from "../lib/api.js";
import { el } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { ask, concerned } from "./dialog.js";
import { messageForm } from "./message-form.js";

/**
 * Asks for a message and publishes it.
 * @param {import("../lib/api.js").Api} api
 * @param {string} queue
 * @param {() => void} done
 */
export function askPublish(api, queue, done) {
  const form = messageForm();
  ask({
    title: t("publish.title", { name: queue }),
    testid: "publish-form",
    wide: true,
    content: [form.nodes],
    controls: form.controls,
    confirm: t("publish.send"),
    run: async () => {
      const { message_id: id, duplicate } = await post(api, queue, await form.body());
      toast(t(duplicate ? "publish.duplicate" : "publish.done", { id }));
      done();
    },
  });
}

/**
 * Publishes a changed copy in the same queue, then deletes the original: in this order, so that whatever fails, the
 * message is there at least once.
 * @param {import("../lib/api.js").Api} api
 * @param {import("./message-text.js").Message} message
 * @param {(id: string) => void} done  with the copy's id
 */
export function askEdit(api, message, done) {
  const { message_id: id, queue, status } = message.fields;
  const form = messageForm(message);
  const held =
    status === "processing" ? el("p", { class: "notice notice-warning", text: t("message.edit_held") }) : null;
  /** What was confirmed already, so that a second try does not publish twice. */
  let published = { body: "", id: "" };
  ask({
    title: t("message.edit_title"),
    testid: "message-edit-form",
    wide: true,
    content: [concerned(t("message.edit_note", { queue }), 1), held, form.nodes],
    controls: form.controls,
    confirm: t("message.edit_send"),
    run: async () => {
      const body = await form.body();
      if (published.body !== body) {
        const answer = await post(api, queue, body);
        if (answer.duplicate) throw new Problem({ code: "conflict", detail: t("message.edit_duplicate") });
        published = { body, id: answer.message_id };
      }
      await removed(api, id, published.id);
      toast(t("message.edited", { id: published.id }));
      done(published.id);
    },
  });
}

/** An original that is gone already is as good as deleted. @param {any} api @param {string} id @param {string} copy */
async function removed(api, id, copy) {
  try {
    await api.delete(path`/messages/${id}`);
  } catch (problem) {
    const { status, detail, title, code } = /** @type {any} */ (problem);
    if (status === 404) return;
    throw new Problem({ status, code, title, detail: `${t("message.edit_both", { id: copy })} ${detail ?? ""}` });
  }
}

/**
 * @param {any} api
 * @param {string} queue
 * @param {string} raw
 * @returns {Promise<{message_id: string, duplicate: boolean}>}
 */
async function post(api, queue, raw) {
  return (await api.request("POST", path`/queues/${queue}/messages`, { raw })).json();
}
