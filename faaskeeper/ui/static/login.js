// The form of the login: its secret goes into the body of a request, never into a URL.

const form = document.getElementById("login");
const shown = document.getElementById("error");

// A link on another page brings no cookie along, as it is SameSite; this page's own request does.
fetch("/api/me").then((answer) => { if (answer.ok) location.replace("/" + location.hash); }).catch(() => {});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const secret = document.getElementById("secret");
  const user = document.getElementById("user");
  shown.textContent = "";
  try {
    const answer = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-FK-UI": "1" },
      body: JSON.stringify({ user: user ? user.value : "", secret: user ? secret.value : secret.value.trim() }),
    });
    if (answer.ok) {
      location.replace("/" + location.hash);
      return;
    }
    shown.textContent = (await answer.json()).error;
  } catch {
    shown.textContent = "The server does not answer.";
  }
  secret.select();
});
