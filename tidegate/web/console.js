// Fetches the main part again every few seconds while the page is looked at; what is open stays where it is.
(() => {
  const main = document.getElementById("main");
  if (!main || !main.hasAttribute("data-live")) return;
  const look = async () => {
    if (!document.hidden && !String(getSelection())) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById("main");
          if (fresh && fresh.innerHTML !== main.innerHTML) main.replaceChildren(...fresh.childNodes);
        }
      } catch {
        // The service is away; the next look may find it.
      }
    }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
})();
