// Passkeys: what the browser's authenticator makes or signs is put into the form's hidden field, and the form is sent.
(function () {
  "use strict";

  function bytes(text) {
    const base64 = text.replace(/-/g, "+").replace(/_/g, "/");
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  function text(buffer) {
    const letters = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
    return btoa(letters).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }

  function listed(credentials) {
    return (credentials || []).map((each) => ({ ...each, id: bytes(each.id) }));
  }

  function shown(credential) {
    const answer = credential.response;
    const response = { clientDataJSON: text(answer.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (answer[name]) response[name] = text(answer[name]);
    }
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment,
      clientExtensionResults: credential.getClientExtensionResults(),
      response: response,
    };
  }

  async function create(options, passwordless) {
    const asked = { ...options.publicKey };
    asked.challenge = bytes(asked.challenge);
    asked.user = { ...asked.user, id: bytes(asked.user.id) };
    asked.excludeCredentials = listed(asked.excludeCredentials);
    asked.authenticatorSelection = {
      ...asked.authenticatorSelection,
      residentKey: passwordless ? "required" : "discouraged",
      requireResidentKey: passwordless,
    };
    if (passwordless) asked.authenticatorSelection.userVerification = "required";
    return shown(await navigator.credentials.create({ publicKey: asked }));
  }

  async function get(options) {
    const asked = { ...options.publicKey };
    asked.challenge = bytes(asked.challenge);
    asked.allowCredentials = listed(asked.allowCredentials);
    return shown(await navigator.credentials.get({ publicKey: asked }));
  }

  async function options(form) {
    if (form.dataset.options) return JSON.parse(form.dataset.options);
    const answer = await fetch(form.action, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error("Ask again in a minute.");
    return (await answer.json()).request_options;
  }

  async function send(form) {
    const told = form.querySelector("[data-passkey-told]");
    told.textContent = "";
    try {
      const asked = await options(form);
      const makes = form.dataset.passkey === "create";
      const passwordless = makes && form.elements.passwordless && form.elements.passwordless.checked;
      const found = makes ? await create(asked, Boolean(passwordless)) : await get(asked);
      form.elements.credential.value = JSON.stringify(found);
      form.submit();
    } catch (error) {
      told.textContent =
        error.name === "NotAllowedError" ? "No passkey was used. Try again, or use another way." : error.message;
    }
  }

  document.querySelectorAll("form[data-passkey]").forEach((form) => {
    if (!window.PublicKeyCredential) return;
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  });
})();
